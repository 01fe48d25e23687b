"""SLERP and TIES against their papers, and merged folders that load as models."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.merge_utils import ties as peft_ties
from safetensors.torch import load_file, save_file
from tiny_models import tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from alignprism.errors import InputError
from alignprism.models.identity import weights_digest
from alignprism.training import merge
from alignprism.training.adapters import stack_adapters
from alignprism.training.merge import apply_adapter, merge_adapters, merge_models, slerp, ties

IDS = torch.tensor([[1, 7, 9, 11, 40, 3]])
SEEDS = st.integers(0, 2**31)
WAYS = st.floats(0, 1)


def _random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# SLERP


@given(SEEDS)
def test_slerp_gives_the_ends_exactly(seed: int) -> None:
    a, b = _random(seed, 2, 3, 5).bfloat16()
    assert torch.equal(slerp(a, b, 0), a)
    assert torch.equal(slerp(a, b, 1), b)


@given(SEEDS, WAYS)
def test_slerp_of_unit_vectors_is_a_unit_vector_at_the_share_of_the_angle(seed: int, t: float) -> None:
    a, b = torch.nn.functional.normalize(_random(seed, 2, 8), dim=1)
    assume(abs(float(a @ b)) < 0.9995)
    between = slerp(a, b, t)
    assert float(between.norm()) == pytest.approx(1, abs=1e-9)
    assert float(a @ between) == pytest.approx(math.cos(t * math.acos(float(a @ b))), abs=1e-9)


@given(SEEDS, WAYS)
def test_slerp_is_the_same_from_the_other_end(seed: int, t: float) -> None:
    a, b = _random(seed, 2, 2, 3)
    assert torch.allclose(slerp(a, b, t), slerp(b, a, 1 - t), atol=1e-9)


def test_slerp_of_a_right_angle_by_hand() -> None:
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    # sin(30 degrees) = 1/2 and sin(60 degrees) = sqrt(3)/2; lengths are kept as they are.
    assert torch.allclose(slerp(a, b, 1 / 3), torch.tensor([[math.sqrt(3), 2.0]]))


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0, 0.0])
def test_slerp_of_colinear_or_zero_tensors_is_linear(factor: float) -> None:
    a = _random(1, 4, 4)
    assert torch.allclose(slerp(a, factor * a, 0.25), (0.75 + 0.25 * factor) * a)


def test_slerp_does_not_depend_on_the_block_length(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = _random(1, 2, 7, 9)
    whole = slerp(a, b, 0.3), ties([a, b], 0.4)
    monkeypatch.setattr(merge, "_BLOCK", 10)
    assert torch.allclose(slerp(a, b, 0.3), whole[0])
    assert torch.equal(ties([a, b], 0.4), whole[1])


def test_slerp_computes_wider_than_it_stores() -> None:
    a, b = _random(1, 2, 64, 64).half() * 1000  # the sum of squares overflows float16
    assert torch.allclose(slerp(a, b, 0.5), slerp(a.double(), b.double(), 0.5).half(), rtol=1e-3)


# TIES


def test_ties_by_hand_as_in_the_papers_figure() -> None:
    deltas = [torch.tensor([3.0, -0.1, 2.0, -4.0, 0.2, 1.0]), torch.tensor([1.0, 0.3, -5.0, -2.0, 0.1, -0.2])]
    # Half of six numbers stay: [3 . 2 -4 . .] and [1 . -5 -2 . .]; the third has mass 2 against 5.
    assert ties(deltas, 0.5).tolist() == [2.0, 0.0, -5.0, -3.0, 0.0, 0.0]
    assert ties(deltas, 0.5, scale=0.5).tolist() == [1.0, 0.0, -2.5, -1.5, 0.0, 0.0]
    # Weighted 3 to 1, mass 6 stands against 5, and means are weighted: (3*3 + 1)/4 and (3*4 + 2)/4.
    assert ties(deltas, 0.5, [3, 1]).tolist() == [2.5, 0.0, 2.0, -3.5, 0.0, 0.0]


@given(SEEDS)
def test_ties_of_everything_with_equal_signs_is_the_mean(seed: int) -> None:
    a, b = _random(seed, 2, 3, 4)
    b = b.abs() * a.sign()
    assert torch.allclose(ties([a, b], 1.0), (a + b) / 2)


@given(SEEDS)
def test_ties_takes_the_value_with_the_larger_mass_where_signs_differ(seed: int) -> None:
    a, b = _random(seed, 2, 12)
    b = -b.abs() * a.sign()
    assert torch.allclose(ties([a, b], 1.0), torch.where(a.abs() > b.abs(), a, b))


def test_ties_elects_the_mass_of_several_small_over_one_large() -> None:
    three = [torch.tensor([-4.0]), torch.tensor([3.0]), torch.tensor([2.0])]
    assert ties(three, 1.0).tolist() == [2.5]


def test_ties_of_equal_masses_leaves_the_base() -> None:
    assert ties([torch.tensor([2.0, 1.0]), torch.tensor([-2.0, 1.0])], 1.0).tolist() == [0.0, 1.0]


def test_ties_trims_by_density() -> None:
    delta = torch.tensor([[1.0, -2.0], [3.0, -4.0]])
    assert ties([delta], 0.0).tolist() == [[0, 0], [0, 0]]
    assert ties([delta], 0.01).tolist() == [[0, 0], [0, -4]]
    assert ties([delta], 0.5).tolist() == [[0, 0], [3, -4]]
    assert ties([torch.ones(4)], 0.5).tolist() == [1, 1, 1, 1]  # no reason to prefer one of equals


@settings(max_examples=25)
@given(SEEDS, st.integers(2, 4), st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_ties_agrees_with_peft(seed: int, count: int, density: float) -> None:
    deltas = [_random(seed + number, 8, 10).float() for number in range(count)]
    expected = peft_ties(deltas, torch.ones(count), density)
    assert torch.allclose(ties(deltas, density), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: slerp(torch.ones(2), torch.ones(2), 1.01), "not 1.01"),
        (lambda: slerp(torch.ones(2), torch.ones(2), math.nan), "not nan"),
        (lambda: slerp(torch.ones(2), torch.ones(3), 0.5), r"not \[2\], \[3\]"),
        (lambda: ties([torch.ones(2)], -0.1), "not -0.1"),
        (lambda: ties([torch.ones(2)], 0.5, [0.0]), "not all 0"),
        (lambda: ties([torch.ones(2)] * 2, 0.5, [1.0]), "a weight per delta"),
        (lambda: ties([torch.ones(2)] * 2, 0.5, [1.0, math.nan]), "a weight per delta"),
        (lambda: ties([torch.ones(2)], 0.5, scale=math.inf), "scale"),
        (lambda: ties([], 0.5), "a weight per delta"),
        (lambda: ties([torch.ones(2), torch.ones(3)], 0.5), r"\[2\], \[3\]"),
    ],
)
def test_unusable_settings_are_refused(wrong: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()  # type: ignore[operator]


# Model folders


def _fine_tuned(architecture: str, seed: int, size: float) -> PreTrainedModel:
    """The base (seed 0) or the base with every weight moved at random."""
    model = tiny_model(architecture)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=size if seed else 0)
    return model


def _folders(
    tmp_path: Path,
    architecture: str = "qwen2",
    dtype: torch.dtype = torch.float32,
    size: float = 0.05,
    **save: object,
) -> list[Path]:
    paths = []
    for seed, name in enumerate(("base", "general", "safe")):
        paths.append(tmp_path / name)
        _fine_tuned(architecture, seed, size).to(dtype).save_pretrained(str(paths[-1]), **save)
        tiny_tokenizer().save_pretrained(str(paths[-1]))
    return paths


def _load(folder: Path) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert isinstance(model, PreTrainedModel)
    return model.eval()


def _logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gemma3", "cohere2"])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_merged_folder_is_the_merge_of_every_weight(tmp_path: Path, architecture: str, sharded: bool) -> None:
    base, general, safe = _folders(tmp_path, architecture, **({"max_shard_size": "20KB"} if sharded else {}))
    states = [_load(folder).state_dict() for folder in (base, general, safe)]
    for method, chosen in (("slerp", {"t": 0.3}), ("ties", {"density": 0.4, "weights": (1.0, 2.0), "scale": 0.8})):
        out = tmp_path / method
        record = merge_models(method, base, general, safe, out, **chosen)
        model = _load(out)
        for name, tensor in model.state_dict().items():
            start, a, b = (state[name] for state in states)
            expected = slerp(a, b, 0.3) if method == "slerp" else start + ties([a - start, b - start], **chosen)
            assert torch.allclose(tensor, expected, atol=1e-6), name
        assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in general.iterdir())
        assert sharded == (len(list(out.glob("*.safetensors"))) > 1)
        assert record.settings == chosen
        assert (record.base, record.first, record.second) == tuple(map(weights_digest, (base, general, safe)))
        head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        assert (head is embedding) == (architecture != "llama")
        assert torch.isfinite(_logits(model)).all()
    assert not list(tmp_path.glob(".*"))


def test_the_ends_of_slerp_are_the_two_models_and_the_tokenizer_is_the_firsts(tmp_path: Path) -> None:
    base, general, safe = _folders(tmp_path, dtype=torch.bfloat16)
    (general / "chat_template.jinja").write_text("own")
    for t, end in ((0, general), (1, safe)):
        merge_models("slerp", base, general, safe, tmp_path / "out", t=t)
        assert torch.equal(_logits(_load(tmp_path / "out")), _logits(_load(end)))
        assert _load(tmp_path / "out").dtype == torch.bfloat16
    assert weights_digest(tmp_path / "out") != weights_digest(safe)  # another chat template is another model
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == "own"


def test_ties_of_a_model_with_itself_is_that_model(tmp_path: Path) -> None:
    base, general, _ = _folders(tmp_path)
    merge_models("ties", base, general, general, tmp_path / "out", density=1.0)
    assert torch.allclose(_logits(_load(tmp_path / "out")), _logits(_load(general)), atol=1e-4)
    merge_models("ties", base, general, general, tmp_path / "out", density=0.0)
    assert torch.equal(_logits(_load(tmp_path / "out")), _logits(_load(base)))


def test_ties_of_bfloat16_folders_is_computed_in_float32_and_rounded_once(tmp_path: Path) -> None:
    base, general, safe = _folders(tmp_path, dtype=torch.bfloat16)
    states = [_load(folder).float().state_dict() for folder in (base, general, safe)]
    merge_models("ties", base, general, safe, tmp_path / "out", density=0.4)
    for name, tensor in _load(tmp_path / "out").state_dict().items():
        start, a, b = (state[name] for state in states)
        assert torch.equal(tensor, (ties([a - start, b - start], 0.4) + start).bfloat16()), name


def test_the_record_says_where_slerp_was_linear_and_goes_into_a_card(tmp_path: Path) -> None:
    base, general, safe = _folders(tmp_path, size=1e-3)
    record = merge_models("slerp", base, general, safe, tmp_path / "out", index=tmp_path / "digests.json")
    names = list(load_file(general / "model.safetensors"))
    assert (record.tensors, record.acts_on) == (len(names), "weights")
    assert record.linear_tensors == sum(not name.endswith("bias") for name in names)  # the base's biases are zero
    assert json.loads(json.dumps(dataclasses.asdict(record)))["settings"] == {"t": 0.5}
    record = merge_models("ties", base, general, safe, tmp_path / "out")
    assert (record.linear_tensors, record.acts_on) == (0, "deltas")


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_head_that_one_folder_writes_twice_stays_tied(tmp_path: Path, which: int) -> None:
    folders = _folders(tmp_path)
    merge_models("slerp", *folders, tmp_path / "plain")
    weights = load_file(folders[which] / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folders[which] / "model.safetensors", metadata={"format": "pt"})
    merge_models("slerp", *folders, tmp_path / "twice")
    merged = _load(tmp_path / "twice")
    assert merged.get_output_embeddings().weight is merged.get_input_embeddings().weight
    assert torch.equal(_logits(merged), _logits(_load(tmp_path / "plain")))
    weights["lm_head.weight"] += 1
    save_file(weights, folders[which] / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lm_head\.weight is .*missing"):
        merge_models("slerp", *folders, tmp_path / "other")


def _change(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop(name)
    save_file(weights | ({} if tensor is None else {name: tensor}), folder / "model.safetensors", {"format": "pt"})


def test_models_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    base, general, safe = _folders(tmp_path)
    out, norm = tmp_path / "out", "model.norm.weight"

    def refused(
        match: str, method: str = "slerp", first: Path = general, second: Path = safe, **chosen: object
    ) -> None:
        with pytest.raises(InputError, match=match):
            merge_models(method, base, first, second, out, **chosen)
        assert not out.exists()
        assert not list(tmp_path.glob(".*"))

    refused("not 1.5", t=1.5)
    refused("not 2", "ties", density=2)
    refused(r"no merge 'dare'.*slerp with t; ties with density, weights, scale", "dare")
    refused(r"settings \['density'\]", density=0.5)
    refused("no full weights here", second=tmp_path / "missing")
    other = tmp_path / "other"
    tiny_model("llama").save_pretrained(str(other))
    refused(r"model\.layers\.0\.self_attn\.k_proj\.bias is missing in .*other and \[16\] in .*base", second=other)
    _change(safe, norm, torch.ones(5))
    refused(r"model\.norm\.weight is \[5\] in .*safe and \[32\] in .*base")
    _change(safe, norm, torch.ones(32, dtype=torch.int8))
    refused("quantised")
    _change(safe, norm, torch.full((32,), math.nan))
    refused("model.norm.weight.*not finite")
    _change(safe, norm, None)
    refused(r"model\.norm\.weight is missing in .*safe")
    content = (safe / "model.safetensors").read_bytes()
    (safe / "model.safetensors").write_bytes(content[:-10])
    refused("copy it again")


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    base, general, safe = _folders(tmp_path)
    for out in (base, general, safe, tmp_path):
        with pytest.raises(InputError, match="replace the input"):
            merge_models("slerp", base, general, safe, out)
    assert _load(base) and _load(general) and _load(safe)


# Adapters


def _adapter(folder: Path, base: Path, seed: int, **options: object) -> Path:
    torch.manual_seed(seed)
    lora = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options}
    model = get_peft_model(_load(base), LoraConfig(**lora))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(str(folder))
    return folder


def _applied(base: Path, adapter: Path) -> PreTrainedModel:
    merged: PreTrainedModel = PeftModel.from_pretrained(_load(base), str(adapter)).merge_and_unload()
    return merged.eval()


@pytest.mark.parametrize(
    "other",
    [{}, {"r": 2, "lora_alpha": 8}, {"use_rslora": True}, {"target_modules": ["q_proj", "v_proj"]}],
    ids=["same", "other rank", "rslora", "fewer layers"],
)
def test_slerp_of_adapters_is_slerp_of_their_deltas(tmp_path: Path, other: dict[str, object]) -> None:
    base = _folders(tmp_path)[0]
    general, safe = _adapter(tmp_path / "a", base, 1), _adapter(tmp_path / "b", base, 2, **other)
    (general / "chat_template.jinja").write_text("own")
    record = merge_adapters("slerp", base, general, safe, tmp_path / "out", t=0.3)
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "own"
    assert not list(tmp_path.glob(".*"))
    start, a, b, merged = (
        model.state_dict()
        for model in (_load(base), *(_applied(base, adapter) for adapter in (general, safe, tmp_path / "out")))
    )
    for name, tensor in merged.items():
        expected = slerp((a[name] - start[name]).double(), (b[name] - start[name]).double(), 0.3)
        assert torch.allclose((tensor - start[name]).double(), expected, atol=1e-5), name
    rank = 4 + int(str(other.get("r", 4)))
    assert load_file(tmp_path / "out" / "adapter_model.safetensors")[
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    ].shape == (rank, 32)
    assert (record.acts_on, record.tensors) == ("deltas", 14)
    assert record.linear_tensors == (10 if "target_modules" in other else 0)
    assert (record.base, record.second) == (weights_digest(base), weights_digest(base, safe))


def test_slerp_of_adapters_that_hold_an_earlier_one_is_slerp_of_what_they_add_to_it(tmp_path: Path) -> None:
    base = _folders(tmp_path)[0]
    start = _adapter(tmp_path / "start", base, 0, r=2)
    one, two = (
        stack_adapters([start, _adapter(tmp_path / f"own-{seed}", base, seed)], tmp_path / f"on-{seed}")
        for seed in (1, 2)
    )
    record = merge_adapters("slerp", base, one, two, tmp_path / "out", t=0.3, start=start)
    begun, a, b, merged = (_applied(base, folder).state_dict() for folder in (start, one, two, tmp_path / "out"))
    for name, tensor in merged.items():
        expected = slerp((a[name] - begun[name]).double(), (b[name] - begun[name]).double(), 0.3)
        assert torch.allclose((tensor - begun[name]).double(), expected, atol=1e-4), name
    assert record.base == weights_digest(base, start) and record.linear_tensors == 0
    # An adapter that adds nothing has no direction, only rounding: halfway is half of the other.
    record = merge_adapters("slerp", base, one, start, tmp_path / "half", start=start)
    assert record.linear_tensors == record.tensors
    half = _applied(base, tmp_path / "half").state_dict()
    assert all(torch.allclose(half[name], (a[name] + begun[name]) / 2, atol=1e-5) for name in half)


def test_ties_of_adapters_is_refused_with_the_way_through_full_models(tmp_path: Path) -> None:
    base = _folders(tmp_path, dtype=torch.bfloat16)[0]
    adapters = [_adapter(tmp_path / name, base, seed) for seed, name in enumerate("ab")]
    with pytest.raises(InputError, match=r"full rank.*apply_adapter"):
        merge_adapters("ties", base, *adapters, tmp_path / "out")
    full = [
        apply_adapter(base, adapter, tmp_path / f"full-{adapter.name}", dtype=torch.float32) for adapter in adapters
    ]
    assert torch.equal(_logits(_load(full[0])), _logits(_applied_in_float32(base, adapters[0])))
    assert AutoTokenizer.from_pretrained(full[0]).chat_template == tiny_tokenizer().chat_template
    record = merge_models("ties", base, *full, tmp_path / "out")
    assert _load(tmp_path / "out").dtype == torch.float32
    assert record.acts_on == "deltas"
    assert apply_adapter(base, adapters[0], tmp_path / "same-type")
    assert _load(tmp_path / "same-type").dtype == torch.bfloat16


def test_an_adapter_of_another_model_is_named(tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_model("llama").save_pretrained(str(base))
    adapter = _adapter(tmp_path / "a", base, 1, target_modules=["q_proj"])
    file = adapter / "adapter_model.safetensors"
    wider = {
        name: torch.cat([value, value], -1) if "lora_A" in name else value for name, value in load_file(file).items()
    }
    save_file(wider, file)
    with pytest.raises(InputError, match=r"does not fit LlamaForCausalLM with hidden size .* trained on another model"):
        apply_adapter(base, adapter, tmp_path / "out")


def test_an_adapter_on_a_tied_head_is_not_applied(tmp_path: Path) -> None:
    base = _folders(tmp_path)[0]
    adapter = _adapter(tmp_path / "a", base, 1, target_modules=["q_proj", "lm_head"])
    with pytest.raises(InputError, match="embedding's as well"):
        apply_adapter(base, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    untied = tmp_path / "untied"
    tiny_model("llama").save_pretrained(str(untied))
    adapter = _adapter(tmp_path / "b", untied, 1, target_modules=["q_proj", "lm_head"])
    applied = _logits(_load(apply_adapter(untied, adapter, tmp_path / "out")))
    with_adapter: PreTrainedModel = PeftModel.from_pretrained(_load(untied), str(adapter))
    assert torch.allclose(applied, _logits(with_adapter), atol=1e-4)


def _applied_in_float32(base: Path, adapter: Path) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged: PreTrainedModel = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return merged.eval()


def test_adapters_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    base = _folders(tmp_path)[0]
    one, two = _adapter(tmp_path / "a", base, 1), _adapter(tmp_path / "b", base, 2)

    def record_base(folder: Path, name: str) -> None:
        content = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": name}
        (folder / "adapter_config.json").write_text(json.dumps(content))

    def refused(match: str, out: Path = tmp_path / "out", **chosen: object) -> None:
        with pytest.raises(InputError, match=match):
            merge_adapters("slerp", base, one, two, out, **chosen)
        assert not (tmp_path / "out").exists()

    record_base(one, "org/one")
    record_base(two, "org/two")
    refused("different bases, org/one and org/two")
    record_base(two, "")
    refused("not -1", t=-1)
    refused("replace the input", out=two)
    with pytest.raises(InputError, match=r"no full weights here.*apply_adapter"):
        merge_models("slerp", base, one, two, tmp_path / "out")
    weights = load_file(two / "adapter_model.safetensors")
    name = next(name for name in weights if "lora_A" in name)
    save_file(weights | {name: torch.ones(4, 7)}, two / "adapter_model.safetensors")
    refused("disagree on the size of .*different bases")
    save_file(weights | {name: torch.full_like(weights[name], math.inf)}, two / "adapter_model.safetensors")
    refused("not finite")
