"""The scores of a task's examples, by which two models are compared on the same ones."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from loraline.artifacts.evaluation import TaskScore

Samples = Mapping[str, Sequence[Mapping[str, Any]]]
"""What the harness logs of each example, by task."""


def task_scores(samples: Samples, metric: str, filter_name: str, stated: float) -> dict[str, TaskScore]:
    """The main metric of each example, by an id that names its task, its number and its content.

    They are given only where their mean is the figure that the harness states. It is not for a figure over all examples
    together (Matthews' correlation, perplexity), nor for a group's that weighs small tasks as much as large ones.

    Args:
        samples: of the task, or of all tasks of a group.
        metric: the main metric, as the harness names it.
        filter_name: of the filter over the answers.
        stated: the figure over all examples.
    """
    scores = {}
    for task, logged in samples.items():
        for sample in logged:
            if sample.get("filter") == filter_name and metric in sample:
                score = _score(sample[metric])
                if score is None:
                    return {}
                scores[f"{task}:{sample['doc_id']}:{str(sample.get('doc_hash', ''))[:12]}"] = score
    return scores if _mean_is(scores, stated) else {}


def _score(value: Any) -> TaskScore | None:
    """A number, or the log-likelihood of a text and the bytes or words in it, as bits; None where it is neither."""
    if isinstance(value, tuple | list):
        if len(value) != 2 or not isinstance(value[1], int):
            return None
        score = TaskScore(value=-float(value[0]) / math.log(2), weight=value[1])
    else:
        try:
            score = TaskScore(value=float(value))
        except (TypeError, ValueError):
            return None
    return score if math.isfinite(score.value) and score.weight > 0 else None


def _mean_is(scores: Mapping[str, TaskScore], stated: float) -> bool:
    if not scores:
        return False
    mean = math.fsum(score.value for score in scores.values()) / sum(score.weight for score in scores.values())
    return math.isclose(mean, stated, rel_tol=1e-6, abs_tol=1e-9)
