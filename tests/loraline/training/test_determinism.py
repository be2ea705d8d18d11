"""Deterministic kernels are asked for as far as a model's operations have them, and given back."""

from collections.abc import Iterator

import pytest
import torch

from loraline.training.determinism import deterministic_algorithms, use_deterministic_algorithms


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


def settings() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def without_a_deterministic_kernel() -> None:
    torch.zeros(3).put_(torch.tensor([0, 1]), torch.ones(2))


def test_strictly_where_all_operations_have_a_deterministic_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    use_deterministic_algorithms(lambda: torch.rand(5).sum())
    assert settings() == (True, False)
    assert torch.equal(torch.rand(3), expected), "random numbers that the trial drew are given back"
    assert capsys.readouterr().out == ""


def test_as_far_as_there_are_some_where_one_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    use_deterministic_algorithms(without_a_deterministic_kernel)
    assert settings() == (True, True)
    assert "can differ by rounding: put_ does not have a deterministic implementation" in capsys.readouterr().out


def test_another_error_of_the_trial_is_raised() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        use_deterministic_algorithms(lambda: torch.ones(2, 3) @ torch.ones(2, 3))


def test_on_a_cpu_nothing_is_changed_or_tried() -> None:
    before = settings()
    with deterministic_algorithms(torch.device("cpu"), without_a_deterministic_kernel):
        assert settings() == before
    assert settings() == before
