"""A merged model that is not the one that was evaluated is a reject."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from loraline.artifacts.merging import GreedyReport, KlReport, MergeReport
from loraline.artifacts.training import TrainReport
from tests.loraline.gate.gate_runs import assert_rejected
from tests.loraline.run_outputs import Outputs, change, write_outputs


def half_the_effect(o: Outputs) -> None:
    change(MergeReport, o.parity, effect_kept=0.5)


def twice_the_effect(o: Outputs) -> None:
    change(MergeReport, o.parity, effect_kept=1.62)


def nan_effect(o: Outputs) -> None:
    change(MergeReport, o.parity, effect_kept=float("nan"))


def other_distribution(o: Outputs) -> None:
    change(MergeReport, o.parity, kl_divergence=KlReport(mean=0.07, p99=0.01, max=0.02))


def rare_other_distribution(o: Outputs) -> None:
    change(MergeReport, o.parity, kl_divergence=KlReport(mean=0.001, p99=0.42, max=0.5))


def nan_distribution(o: Outputs) -> None:
    change(MergeReport, o.parity, kl_divergence=KlReport(mean=math.nan, p99=math.nan, max=math.nan))


def no_distribution(o: Outputs) -> None:
    change(MergeReport, o.parity, kl_divergence=None)


def unmeasured(o: Outputs) -> None:
    names = ("max_abs_logit_difference", "mean_abs_logit_difference", "effect_kept", "kl_divergence", "greedy")
    change(MergeReport, o.parity, **dict.fromkeys(names), examples=0, positions=0)


def no_text(o: Outputs) -> None:
    change(MergeReport, o.parity, greedy=GreedyReport(examples=0, tokens=0, equal=0, ties=0))


def wrong_base(o: Outputs) -> None:
    change(TrainReport, o.adapter, base_digest="a" * 64)


def unknown_base(o: Outputs) -> None:
    change(TrainReport, o.adapter, base_digest="")


FAULTS: dict[Callable[[Outputs], None], str] = {
    half_the_effect: "0.5 of the adapter's effect, farther from 1 than merge.max_effect_change = 0.02",
    twice_the_effect: "1.62 of the adapter's effect",
    nan_effect: "was not compared with the adapter on its base, or the adapter has no effect",
    other_distribution: "by 0.1 on average of what the adapter changes, more than merge.max_divergence = 0.05",
    rare_other_distribution: "by 0.1 at the 99th percentile of what the adapter changes",
    nan_distribution: "divergence was not compared with the adapter's own on average",
    no_distribution: "divergence was not compared with the adapter's own on average",
    unmeasured: "parity was not measured: there were no rows",
    no_text: "the merged model's generations were not compared",
    wrong_base: "was trained on the base aaaaaaaaaaaa and merged into another, bbbbbbbbbbbb",
    unknown_base: "the training's report does not name its base",
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_merged_model_that_is_another(tmp_path: Path, plant: Callable[[Outputs], None]) -> None:
    outputs = write_outputs(tmp_path)
    plant(outputs)
    assert_rejected(outputs, "merge", FAULTS[plant])
