"""The module that is trained: its forward gives log-probabilities of completions.

Everything that distributed training hooks into fires around this one forward, so the scorer (not the model inside it)
is what ``Accelerator.prepare`` gets. SFT and DPO both consume its output; nothing else calls the model.
"""

from __future__ import annotations

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from alignprism.training.batches import Batch
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.head import HeadForm, completion_log_probs


class Scorer(nn.Module):
    """Per-sequence log-probabilities of completions under a causal language model, head on completion tokens only.

    Raises
    ------
    TrainingError
        the model has no separate base model, or its head is not a plain linear layer.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, config: TrainConfig | None = None) -> None:
        super().__init__()
        self.model = model
        head = self.causal.get_output_embeddings()
        if type(head) is not nn.Linear:
            raise TrainingError(
                f"the output head of {type(self.causal).__name__} is a {type(head).__name__}, not a plain linear "
                "layer; an adapter on the head is not supported: leave the head out of the adapter's target modules"
            )
        if self.causal.base_model is self.causal:
            raise TrainingError(f"{type(self.causal).__name__} has no base model apart from its head")
        sizes = {} if config is None else {"chunk_bytes": config.head_bytes, "keep_bytes": config.head_keep_bytes}
        self.form = HeadForm(scale=_scale(self.causal), cap=_cap(self.causal), **sizes)

    @property
    def causal(self) -> PreTrainedModel:
        """The transformers model, with the adapter's layers in place if there is one."""
        model = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        assert isinstance(model, PreTrainedModel)
        return model

    def forward(self, input_ids: Tensor, completion_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the completion tokens.

        Parameters
        ----------
        input_ids : (n, t) int64, padded on the right (see `Batch` on why there is no padding mask)
        completion_mask : (n, t) bool

        Returns
        -------
        sums (n,) float32 in nats, and the same per token (n, t - 1): entry j is the token at position j + 1, zero
        outside completions.
        """
        states = self.causal.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        predicts = completion_mask[:, 1:]
        head = self.causal.get_output_embeddings()
        log_probs = completion_log_probs(
            states[:, :-1][predicts], head.weight, head.bias, input_ids[:, 1:][predicts], self.form
        )
        per_token = log_probs.new_zeros(predicts.shape).masked_scatter(predicts, log_probs)
        return per_token.sum(-1), per_token


def check_against_logits(scorer: Scorer, batch: Batch, tolerance: float = 1e-3) -> None:
    """Compare the scorer with the model's own logits on one real batch.

    Catches heads with a form that this code does not know (a scale or cap under another name).

    Raises
    ------
    TrainingError
        some token's log-probability differs by more than `tolerance` nats.
    """
    with torch.no_grad():
        _, ours = scorer(batch.input_ids, batch.completion_mask)
        logits = scorer.causal(input_ids=batch.input_ids, use_cache=False).logits
        targets = batch.input_ids[:, 1:, None]
        full = logits[:, :-1].float().log_softmax(-1).gather(-1, targets).squeeze(-1)
    difference = float(((ours - full) * batch.completion_mask[:, 1:]).abs().max())
    if not difference <= tolerance:
        raise TrainingError(
            f"log-probabilities differ from the model's own logits by {difference:.3g} nats (at most {tolerance:.3g} "
            f"is accepted): {type(scorer.causal).__name__} does something after its head that is not known here"
        )


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
