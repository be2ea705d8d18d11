"""The chunked loss and its gradient are those of plain cross-entropy."""

import pytest
import torch
from torch.nn import functional

from loraline.training.logit_transform import IDENTITY, LogitTransform
from loraline.training.loss import _ChunkedLoss


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("scale", [0.1, 2.0])
@pytest.mark.parametrize("transform", [IDENTITY, LogitTransform(0.25), LogitTransform(cap=3.0)], ids=str)
def test_chunked_loss_equals_cross_entropy(
    dtype: torch.dtype, tolerance: float, scale: float, transform: LogitTransform
) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(700, 16, generator=generator).to(dtype).requires_grad_()
    weight = (torch.randn(90, 16, generator=generator) * scale).to(dtype)
    positions = torch.arange(1, 700, 2)
    # Half of the targets are what the model would say, so that certain tokens are among them.
    targets = torch.randint(0, 90, (350,), generator=generator)
    targets[::2] = (states.detach()[positions] @ weight.T).argmax(-1)[::2]

    logits = (states @ weight.T)[positions] * transform.factor
    if transform.cap:
        logits = torch.tanh(logits / transform.cap) * transform.cap
    expected = functional.cross_entropy(logits.float(), targets, reduction="sum")
    (wanted,) = torch.autograd.grad(expected / 350, states)
    loss = _ChunkedLoss.apply(states, positions, targets, weight, None, transform)
    (gradient,) = torch.autograd.grad(loss / 350, states)
    with torch.no_grad():
        evaluated = _ChunkedLoss.apply(
            states.detach(), positions, targets, weight, None, transform
        )  # as in an evaluation

    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=tolerance / 5)
    assert float(evaluated) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert (gradient - wanted).norm() <= tolerance * wanted.norm()
