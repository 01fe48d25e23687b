"""The losses against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from alignprism.training.losses import LN2, dpo_loss, dpo_margins, preference_accuracy, sft_loss


def _nats(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_dpo_loss_is_equation_7_of_the_paper() -> None:
    policy_chosen, policy_rejected = _nats(-3.0, -10.0), _nats(-4.0, -9.0)
    reference_chosen, reference_rejected = _nats(-3.5, -8.0), _nats(-3.0, -9.5)
    beta = 0.3
    expected = []
    for i in range(2):
        ratio_chosen = math.exp(policy_chosen[i]) / math.exp(reference_chosen[i])
        ratio_rejected = math.exp(policy_rejected[i]) / math.exp(reference_rejected[i])
        z = beta * math.log(ratio_chosen) - beta * math.log(ratio_rejected)
        expected.append(-math.log(1 / (1 + math.exp(-z))))
    loss = dpo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta)
    assert loss.tolist() == pytest.approx(expected, rel=1e-12)


def test_a_policy_that_equals_its_reference_has_loss_ln_2_and_half_accuracy() -> None:
    chosen, rejected = _nats(-3.0, -40.0), _nats(-5.0, -2.0)
    assert dpo_loss(chosen, rejected, chosen, rejected, 0.1).tolist() == pytest.approx([LN2, LN2])
    assert preference_accuracy(dpo_margins(chosen, rejected, chosen, rejected, 0.1)).tolist() == [0.5, 0.5]


def test_the_dpo_gradient_pushes_chosen_up_and_rejected_down_by_the_same_amount() -> None:
    chosen, rejected = _nats(-3.0).requires_grad_(), _nats(-4.0).requires_grad_()
    dpo_loss(chosen, rejected, _nats(-3.0), _nats(-4.0), 0.2).sum().backward()
    assert chosen.grad is not None and rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.1) and rejected.grad.item() == pytest.approx(0.1)


def test_huge_margins_stay_finite() -> None:
    zero = _nats(0.0, 0.0)
    assert dpo_loss(_nats(-1e4, 1e4), zero, zero, zero, 1.0).tolist() == [1e4, 0.0]


def test_sft_loss_is_the_negative_log_likelihood() -> None:
    assert sft_loss(_nats(-2.0, -0.5)).tolist() == [2.0, 0.5]
