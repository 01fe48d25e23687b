"""The losses, as pure functions of per-sequence log-probabilities.

Every argument is a float tensor of shape ``(n,)``, in nats, one entry per sequence or pair; every result has one entry
per sequence or pair, so that the loop can weigh them over micro-batches and processes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LN2 = math.log(2.0)
"""The DPO loss of a policy that equals its reference."""


def sft_loss(log_probs: Tensor) -> Tensor:
    """Negative log-likelihood of each completion, summed over its tokens: ``(n,)``.

    The loop divides by the number of completion tokens of the whole optimiser batch, which is the usual token mean
    whatever the micro-batches are.
    """
    return -log_probs


def dpo_margins(
    policy_chosen: Tensor, policy_rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> Tensor:
    """Difference of the implicit rewards, beta [log pi(y_w)/ref(y_w) - log pi(y_l)/ref(y_l)]: ``(n,)``.

    Rafailov et al. 2023 (arXiv 2305.18290), equations 5 and 7.
    """
    return beta * ((policy_chosen - reference_chosen) - (policy_rejected - reference_rejected))


def dpo_loss(
    policy_chosen: Tensor, policy_rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> Tensor:
    """Sigmoid DPO loss of each pair: ``(n,)``. Rafailov et al. 2023 (arXiv 2305.18290), equation 7."""
    margins = dpo_margins(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta)
    return -F.logsigmoid(margins)


def per_token(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities by completion token, for the length-normalised loss: ``(n,)``, nats per token.

    Given to `dpo_loss` in place of sums (policy and reference alike) this is DPO-norm of Lambert et al. 2024 (Tulu 3,
    arXiv 2411.15124, equation 6), TRL's ``sigmoid_norm``.
    """
    return log_probs / tokens.clamp(min=1)


def preference_accuracy(margins: Tensor) -> Tensor:
    """1 where the policy prefers the chosen side more than the reference does, 0 if less, 0.5 for a tie: ``(n,)``."""
    return (torch.sign(margins) + 1) / 2
