"""A merged model that is not the one that was evaluated is a reject."""

from collections.abc import Callable
from pathlib import Path

import pytest

from loraline.artifacts.merging import GreedyReport, MeanMax, MergeReport
from loraline.artifacts.training import TrainReport
from tests.loraline.gate.gate_runs import assert_rejected
from tests.loraline.run_outputs import Outputs, change, write_outputs


def other_logits(o: Outputs) -> None:
    change(MergeReport, o.parity, max_abs_logit_difference=0.7)


def nan_logits(o: Outputs) -> None:
    change(MergeReport, o.parity, max_abs_logit_difference=float("nan"))


def other_distribution(o: Outputs) -> None:
    change(MergeReport, o.parity, kl_divergence=MeanMax(mean=0.001, max=0.02))


def nan_distribution(o: Outputs) -> None:
    change(MergeReport, o.parity, kl_divergence=MeanMax(mean=float("nan"), max=float("nan")))


def no_distribution(o: Outputs) -> None:
    change(MergeReport, o.parity, kl_divergence=None)


def unmeasured(o: Outputs) -> None:
    names = ("max_abs_logit_difference", "mean_abs_logit_difference", "kl_divergence", "greedy")
    change(MergeReport, o.parity, **dict.fromkeys(names), examples=0, positions=0)


def other_text(o: Outputs) -> None:
    change(MergeReport, o.parity, greedy=GreedyReport(examples=8, tokens=180, equal=6, ties=1))


def no_text(o: Outputs) -> None:
    change(MergeReport, o.parity, greedy=GreedyReport(examples=0, tokens=0, equal=0, ties=0))


def wrong_base(o: Outputs) -> None:
    change(TrainReport, o.adapter, base_digest="a" * 64)


def unknown_base(o: Outputs) -> None:
    change(TrainReport, o.adapter, base_digest="")


FAULTS: dict[Callable[[Outputs], None], str] = {
    other_logits: "by up to 0.7 in a logit, more than the tolerance of 0.5",
    nan_logits: "the merge was not compared",
    other_distribution: (
        "up to 0.02 nats (KL) from the adapter's on its base, more than merge.max_kl_divergence = 0.01"
    ),
    nan_distribution: "the merge's distributions were not compared",
    no_distribution: "the merge's distributions were not compared",
    unmeasured: "parity was not measured: there were no rows",
    other_text: "something else than the adapter on its base in 1 of 8 greedy generations",
    no_text: "the merged model's generations were not compared",
    wrong_base: "was trained on the base aaaaaaaaaaaa and merged into another, bbbbbbbbbbbb",
    unknown_base: "the training's report does not name its base",
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_merged_model_that_is_another(tmp_path: Path, plant: Callable[[Outputs], None]) -> None:
    outputs = write_outputs(tmp_path)
    plant(outputs)
    assert_rejected(outputs, "merge", FAULTS[plant])
