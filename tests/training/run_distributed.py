"""A training run as one of two gloo processes: `run_distributed.py OUT STRATEGY RANK WORLD PORT [KILL_AT]`.

STRATEGY is `ddp` (accelerate's) or `fsdp2` (torch's `fully_shard` on a gloo mesh, because accelerate 1.15 has no FSDP2 on
a CPU and does not say so).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path


def main(out: Path, strategy: str, rank: int, world: int, port: int, kill_at: int, method: str, lora_rank: int) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true", "LOCAL_WORLD_SIZE": str(world),
    }  # fmt: skip
    import torch
    from accelerate import Accelerator
    from tiny_models import random_examples, tiny_model, tiny_tokenizer
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    from alignprism.training.config import TrainConfig
    from alignprism.training.loop import Progress, train
    from alignprism.training.reference import compute_reference
    from alignprism.training.scorer import Scorer

    torch.set_num_threads(1)
    config = TrainConfig(
        method,  # type: ignore[arg-type]
        learning_rate=5e-3, epochs=2, batch_size=5, lora_rank=lora_rank, checkpoint_every=2, micro_batch_tokens=120,
        held_out_share=0.2, held_out_every=2,
    )  # fmt: skip
    accelerator = Accelerator()
    assert accelerator.num_processes == world
    seen: dict[str, object] = {"world": torch.distributed.get_world_size() if world > 1 else 1}

    def shard(scorer: Scorer) -> None:
        mesh = init_device_mesh("cpu", (world,))
        for layer in scorer.causal.base_model.layers:  # type: ignore[union-attr]
            fully_shard(layer, mesh=mesh)
        fully_shard(scorer, mesh=mesh)
        parameters = list(scorer.parameters())
        assert all(isinstance(parameter, DTensor) for parameter in parameters)
        seen["sharded"] = len(parameters)
        seen["local"] = sum(p.to_local().numel() for p in parameters)  # type: ignore[attr-defined]
        seen["whole"] = sum(p.numel() for p in parameters)

    def report(progress: Progress) -> None:
        if progress.done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    examples, model = random_examples(14), tiny_model("cohere")
    reference = compute_reference("base", "d", model, examples, out / "ref.jsonl") if config.preference else None
    train(
        config, examples, model, tiny_tokenizer(), out / "run", reference, report=report, start_digest="d",
        shard=shard if strategy == "fsdp2" else None,
    )  # fmt: skip
    (out / f"seen-{rank}.json").write_text(json.dumps(seen))
    if world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        Path(arguments[0]),
        arguments[1],
        *map(int, arguments[2:6]),
        method=arguments[6],
        lora_rank=int(arguments[7]),  # type: ignore[misc]
    )
