"""The module that is trained: its forward gives log-probabilities of completions.

Everything that distributed training hooks into fires around this one forward, so the scorer (not the model inside it)
is what ``Accelerator.prepare`` gets. SFT and DPO both consume its output; nothing else calls the model.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers import PreTrainedModel

from alignprism.training.batches import HeadCost
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.head import HeadForm, completion_log_probs
from alignprism.training.layout import PADDING, Batch, allowed
from alignprism.training.precision import is_half


class Scores(NamedTuple):
    """What a forward gives: ``sums`` (sequences,) and ``tokens`` (m,) float32 in nats, and the router's loss.

    ``router`` is the mean load-balancing loss of a mixture-of-experts model over the batch's tokens, a scalar; zero for
    other models.
    """

    sums: Tensor
    tokens: Tensor
    router: Tensor


class Scorer(nn.Module):
    """Per-sequence log-probabilities of completions under a causal language model, head on completion tokens only.

    ``compute`` is what matrix products are rounded to (`precision.compute_dtype`); None: the weights' own type.

    Raises
    ------
    TrainingError
        the model has no separate base model, or its head is not a plain linear layer.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        config: TrainConfig | None = None,
        compute: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.compute = compute
        # By these names accelerate's FSDP2 finds the layers that it shards one by one.
        self._no_split_modules = sorted(self.causal._no_split_modules or ())
        head = self.causal.get_output_embeddings()
        if not _plain_head(head.get_base_layer() if isinstance(head, LoraLinear) else head):
            raise TrainingError(
                f"the output head of {type(self.causal).__name__} is a {type(head).__name__}, neither a plain linear layer "
                "nor one with a plain LoRA adapter; leave the head out of the adapter's target modules"
            )
        if self.causal.base_model is self.causal:
            raise TrainingError(f"{type(self.causal).__name__} has no base model apart from its head")
        form = HeadForm(scale=_scale(self.causal), cap=_cap(self.causal))
        if config is not None:
            form = replace(form, chunk_bytes=config.head_bytes, keep_bytes=config.head_keep_bytes)
        self.form = form
        self.router = _router(self.causal)

    @property
    def causal(self) -> PreTrainedModel:
        """The transformers model, with the adapter's layers in place if there is one."""
        model = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        assert isinstance(model, PreTrainedModel)
        return model

    def tie_weights(self) -> None:
        """Make head and embedding one parameter again, where they are; accelerate asks for it after it moved them."""
        self.causal.tie_weights()

    def autocast(self, device: torch.device) -> Any:
        """The context in which the layers below the head run."""
        return torch.autocast(device.type, self.compute or torch.bfloat16, enabled=self.compute is not None)

    def forward(self, batch: Batch) -> Scores:
        """Log-probabilities of the completion tokens of `batch`, by token and summed by sequence."""
        masks = attention_masks(self.causal, batch) if batch.shared else {}
        wants_router = {"output_router_logits": True} if self.router is not None else {}
        head = self.causal.get_output_embeddings()
        with self.autocast(batch.input_ids.device):
            output = self.causal.base_model(input_ids=batch.input_ids, use_cache=False, **masks, **wants_router)
            states = output.last_hidden_state[batch.rows, batch.sources]
            low_rank = _low_rank(head, states) if isinstance(head, LoraLinear) else ()
        weight = head.weight if self.compute is None else head.weight.to(self.compute)
        tokens = completion_log_probs(states, weight, head.bias, batch.targets, self.form, *low_rank)
        sums = tokens.new_zeros(batch.sequences).index_add(0, batch.sequence, tokens)
        router = tokens.new_zeros(()) if self.router is None else self._router_loss(output.router_logits, batch)
        return Scores(sums, tokens, router)

    def _router_loss(self, logits: Any, batch: Batch) -> Tensor:
        assert self.router is not None
        module = sys.modules[type(self.causal).__module__]
        valid = (batch.segments != PADDING).long()
        loss: Tensor = module.load_balancing_loss_func(logits, *self.router, attention_mask=valid)
        return loss.float()


def attention_masks(model: PreTrainedModel, batch: Batch) -> dict[str, Any]:
    """Keyword arguments that make shared rows right: additive 4-D masks, by layer type where layers differ.

    A single mask would take the window away from sliding-window layers, because transformers uses a ready-made 4-D mask
    in every layer as it is.
    """
    config = model.config.get_text_config()
    kinds = layer_kinds(model)
    masks = {}
    for kind in sorted(kinds):
        window = config.sliding_window if kind == "sliding_attention" else None
        sees = allowed(batch.segments, batch.positions, window)
        lowest = torch.finfo(model.dtype).min
        masks[kind] = torch.zeros(sees.shape, dtype=model.dtype, device=sees.device).masked_fill_(~sees, lowest)[
            :, None
        ]
    mask = masks if len(kinds) > 1 else masks[kinds.pop()]
    return {"attention_mask": mask, "position_ids": batch.positions}


def layer_kinds(model: PreTrainedModel) -> set[str]:
    """The kinds of attention layers by transformers' names; a model that names none has full attention throughout."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return {"sliding_attention"} if getattr(config, "sliding_window", None) else {"full_attention"}
    return set(kinds)


def why_not_shared(model: PreTrainedModel) -> str | None:
    """Why pairs of this model cannot share a row; None where nothing speaks against trying."""
    unknown = layer_kinds(model) - {"full_attention", "sliding_attention"}
    if unknown:
        return f"layers of kind {', '.join(sorted(unknown))} take no attention mask of this form"
    if getattr(model.config.get_text_config(), "alibi", False):
        return "its attention knows distances by a bias of its own (ALiBi), not by position ids"
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        return f"{type(model).__name__} takes no position ids"
    attention = model.config._attn_implementation
    if attention not in ("sdpa", "eager"):
        return f"attention implementation {attention!r} takes no dense mask"
    return None


def head_cost(model: PreTrainedModel, config: TrainConfig) -> HeadCost | None:
    """What running the head a second time would cost in this training; None where the head stays frozen.

    In parameters, since every one costs the same two operations a position and direction: the head's against three times
    those of the layers below it (forward, and backward to states and weights); an embedding only looks up.
    """
    head = model.get_output_embeddings().weight
    frozen = not config.lora_head if config.lora_rank else not head.requires_grad
    if frozen:
        return None
    tables = {id(head), id(model.get_input_embeddings().weight)}
    below = sum(p.numel() for p in model.parameters() if id(p) not in tables)
    form = HeadForm(keep_bytes=config.head_keep_bytes)
    return HeadCost(form.kept_rows(head.shape[0]), head.numel() / (3 * max(below, 1)))


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far log-probabilities of the same tokens may differ, in nats: the largest difference and the mean one."""

    largest: float = 1e-3
    mean: float = 1e-3

    @classmethod
    def of(cls, scorer: Scorer) -> Tolerance:
        """Float32 is exact to 1e-3; in half precision single tokens stray, but not all of them."""
        return cls(1.0, 0.1) if is_half(scorer.causal.dtype, scorer.compute) else cls()

    def exceeded(self, differences: Tensor) -> bool:
        """Whether the differences, (n,), say that two ways of computing are not the same."""
        # Written so that NaN exceeds.
        return not (float(differences.max()) <= self.largest and float(differences.mean()) <= self.mean)


def check_against_logits(scorer: Scorer, batch: Batch, row_names: list[str] | None = None) -> None:
    """Compare the scorer with the model's own logits on real rows.

    Catches heads with a form that this code does not know (a scale or cap under another name).

    Raises
    ------
    TrainingError
        they differ by more than `Tolerance` accepts.
    """
    tolerance = Tolerance.of(scorer)
    with torch.no_grad(), scorer.autocast(batch.input_ids.device):
        ours = scorer(batch).tokens
        logits = scorer.causal(input_ids=batch.input_ids, use_cache=False).logits[batch.rows, batch.sources]
        full = logits.float().log_softmax(-1).gather(-1, batch.targets[:, None]).squeeze(-1)
    differences = (ours - full).abs()
    difference = float(differences.max())
    if not (ours.isfinite().all() and full.isfinite().all()):
        raise TrainingError(
            f"the log-probabilities of {type(scorer.causal).__name__} are not finite before the first step: its weights hold NaN or "
            "infinities, or its dtype is too narrow for it"
        )
    if tolerance.exceeded(differences):
        worst = int(batch.rows[int(differences.nan_to_num(float("inf")).argmax())])
        where = f"row {row_names[worst]!r}: " if row_names else ""
        raise TrainingError(
            f"{where}log-probabilities differ from the model's own logits by {difference:.3g} nats (at most "
            f"{tolerance.largest:.3g} is accepted, {tolerance.mean:.3g} on average): {type(scorer.causal).__name__} does something after its head that is not known here"
        )


def sharing_differences(scorer: Scorer, shared: Batch, separate: Batch) -> Tensor:
    """Differences, (n,) in nats, between tokens' log-probabilities in shared and in separate rows."""
    with torch.no_grad():
        differences: Tensor = scorer(shared).tokens - scorer(separate).tokens
    return differences.abs()


def _low_rank(head: LoraLinear, states: Tensor) -> tuple[Tensor, Tensor]:
    """The adapter's part of the head's logits as two factors, (n, r) and (v, r); several adapters stand side by side."""
    # As peft does: in a 16-bit model the adapter's weights are float32 nevertheless.
    low = [head.scaling[n] * head.lora_A[n](states.to(head.lora_A[n].weight.dtype)) for n in head.active_adapters]
    up = [head.lora_B[name].weight for name in head.active_adapters]
    return torch.cat(low, dim=1), torch.cat(up, dim=1)


def _plain_head(head: nn.Module | None) -> bool:
    # FSDP2 puts a subclass of its own in front of the class.
    return isinstance(head, nn.Linear) and type(head).forward is nn.Linear.forward


def _scale(model: PreTrainedModel) -> float:
    config = model.config.get_text_config()
    if getattr(config, "logit_scale", None) is not None:  # Cohere
        return float(config.logit_scale)
    if getattr(config, "logits_scaling", None) is not None:  # Granite
        return 1.0 / float(config.logits_scaling)
    return 1.0


def _cap(model: PreTrainedModel) -> float | None:
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return None if cap is None else float(cap)


def _router(model: PreTrainedModel) -> tuple[int, int] | None:
    """Number of experts and experts per token of a mixture-of-experts model, None for others.

    Raises
    ------
    TrainingError
        the model has a router whose loss transformers does not offer under the usual name.
    """
    if not hasattr(model, "router_aux_loss_coef"):
        return None
    if not hasattr(sys.modules[type(model).__module__], "load_balancing_loss_func"):
        raise TrainingError(
            f"{type(model).__name__} routes tokens to experts, but its balancing loss is not known here"
        )
    return int(model.num_experts), int(model.num_experts_per_tok)
