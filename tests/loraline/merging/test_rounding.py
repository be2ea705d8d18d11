"""Rounding of merged weights keeps on average what rounding to nearest throws away."""

import pytest
import torch

from loraline.merging.rounding import StochasticRounding

SPACING = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
"""Between the numbers from 1 to 2."""


@pytest.mark.parametrize("dtype", SPACING)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_small_change_is_kept_on_average(dtype: torch.dtype, sign: int) -> None:
    change = SPACING[dtype] / 10
    values = torch.full((200, 500), sign * (1.25 + change))
    assert (values.to(dtype) == sign * 1.25).all(), "nearest loses it altogether"
    rounded = StochasticRounding("weight").round(values, dtype).float()
    assert set(rounded.unique().tolist()) == {sign * 1.25, sign * (1.25 + SPACING[dtype])}
    kept = (sign * rounded - 1.25).mean().item() / change
    assert kept == pytest.approx(1, abs=0.04)  # four standard errors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_what_the_dtype_can_hold_stays_as_it_is(dtype: torch.dtype) -> None:
    values = torch.randn(999).to(dtype)
    assert torch.equal(StochasticRounding("weight").round(values.float(), dtype), values)


def test_the_bits_are_those_of_the_name_and_the_same_everywhere() -> None:
    values = torch.arange(-50, 51) / 50
    first, again, other = (StochasticRounding(name).round(values, torch.bfloat16) for name in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert int(first.view(torch.int16).long().sum()) == GOLDEN


def test_what_is_not_finite_stays_so() -> None:
    rounded = StochasticRounding("weight").round(torch.tensor([torch.inf, -torch.inf, torch.nan]), torch.bfloat16)
    assert rounded.isinf().tolist() == [True, True, False]
    assert bool(rounded.isnan()[2])


GOLDEN = -30938
"""Sum of the bits, as first computed."""
