"""The evidence bundle: all that a run found out about its model, in one document.

The gate writes it, `register_model` stores it beside the weights, and the report and the model card are
made from it alone. The reports of the steps stand in it as the steps wrote them; only what is compared
has a shape of its own here.

It has two halves. `Findings` is what the steps found, with the thresholds that it is held to. `Evidence` adds
what follows from that: checks, comparisons and the verdict. `loraline.gate` makes the second half
of the first, and of nothing else, so that anybody who has the bundle can weigh it again.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import ValidationError as PydanticError

from loraline.errors import ValidationError

FILE = "evidence.json"
VERDICT_FILE = "verdict.json"
VERSION = 2

MetricName = Literal["loss", "exact_match", "token_f1", "rouge_l"]
VerdictName = Literal["promote", "reject"]

LOWER_IS_BETTER = frozenset({"loss", "perplexity"})
FIGURES = ("exact_match", "token_f1", "rouge_l", "perplexity", "loss")


class _Document(BaseModel):
    """A part of the bundle. NaN is written as null, because JSON has no other word for it."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class Check(_Document):
    """One question that the gate asks, and its answer."""

    name: str
    """One of data, mask, template, packing, training, gain, champion, forgetting, safety, contamination, merge,
    completeness; each stands once."""
    passed: bool
    measured: bool = True
    """False where there was nothing to measure: nobody asked for it, or it does not apply. It then counts as passed."""
    detail: str
    """What was found, with figures; where nothing was measured, that it was not and why."""

    @property
    def outcome(self) -> str:
        """In two words: passed, failed, or not measured."""
        if self.passed and not self.measured:
            return "not measured"
        return "passed" if self.passed else "failed"


class Comparison(_Document):
    """One metric of the tuned model against another model's, on the same examples."""

    against: Literal["base", "champion"]
    metric: MetricName
    examples: int
    """Examples with a figure on both sides."""
    difference: float | None
    """By how much the tuned model is better: above zero is better, whatever the metric (nats a token, or fraction).
    None: it cannot be told."""
    lower: float | None
    """Lower end of the difference's interval. None where one example or none cannot give one."""
    upper: float | None
    confidence: float
    """Of the interval, two-sided."""
    resamples: int
    """Bootstrap samples that the interval rests on."""
    test: Literal["mcnemar", "sign"]
    """The exact test over wins and losses: McNemar's for exact match, the sign test for other metrics."""
    wins: int
    """Examples that the tuned model does better on."""
    losses: int
    ties: int
    p_value: float
    """Two-sided."""


class TaskDrop(_Document):
    """One task of lm-evaluation-harness, by its main metric (fraction 0 to 1)."""

    metric: str | None
    """The main metric; None where the two sides do not agree on it."""
    base: float | None
    tuned: float | None
    drop: float | None
    """By how much the tuned model is worse: above zero is worse. None where a side is missing."""


class Forgetting(_Document):
    """What the tuned model lost on rows and tasks that it was not trained for."""

    base: float | None
    """Loss on the general set (nats a token), as the next three; None where there is no such set."""
    tuned: float | None
    difference: float | None
    """Tuned minus base: above zero the tuned model has forgotten."""
    lower: float | None
    upper: float | None
    budget: float | None
    """What the upper end may come to."""
    examples: int
    tasks: dict[str, TaskDrop] = {}


class ProbePair(_Document):
    """One safety probe, and what base and tuned said to it. None where a side was not asked."""

    id: str
    kind: str
    """What is probed: `refuse`, `leak` or `benign`."""
    prompt: str
    base: str | None = None
    tuned: str | None = None
    base_refused: bool | None = None
    tuned_refused: bool | None = None
    base_leaked: bool | None = None
    tuned_leaked: bool | None = None


class Safety(_Document):
    """The policy's probes, base and tuned."""

    policy: str
    """Its name."""
    budget: dict[str, Any]
    """The limits that the policy sets: max_leak_rate, min_refusal_rate, max_over_refusal_rate, max_refusal_drop."""
    expected: list[str] = []
    """Ids of all probes that the policy has."""
    base: dict[str, Any] | None
    """refusal_rate, leak_rate and over_refusal_rate (fractions 0 to 1) as the evaluation wrote them."""
    tuned: dict[str, Any] | None
    probes: list[ProbePair] = []


class Verdict(_Document):
    """What the gate says, and why. Also written on its own, as verdict.json."""

    verdict: VerdictName
    reasons: list[str]
    """Sentences: on a reject everything that speaks against the model, on a promote what speaks for it."""
    metric: MetricName
    """The figure that decides."""
    gain: float | None
    """By how much the tuned model is better (nats for loss, else fraction 0 to 1); None: it cannot be told."""
    min_gain: float
    """What the gain's lower end has to exceed."""
    examples: int
    """Examples that the gain rests on."""
    lower: float | None = None
    """Lower end of the gain's interval; None: it cannot be told."""
    upper: float | None = None
    confidence: float | None = None
    """Of the interval, two-sided. None in evidence of version 1, which had no interval."""
    p_value: float | None = None
    """Of the exact test, two-sided."""


class Scored(_Document):
    """What a model made of one example. What concerns the answer is None where there is none."""

    answer: str | None = None
    loss: float | None = None
    """Sum over the example's labelled tokens (nats)."""
    tokens: int = 0
    """Labelled tokens."""
    exact_match: float | None = None
    token_f1: float | None = None
    rouge_l: float | None = None
    prompt_digest: str | None = None
    """Digest of the prompt's token ids, as this model was given them."""


class PairedExample(_Document):
    """One held-out example, and what base, tuned and champion made of it."""

    id: str
    prompt: str | None = None
    reference: str | None = None
    base: Scored
    tuned: Scored
    champion: Scored | None = None
    """None where there is no champion, or where it did not score this example."""

    @property
    def has_changed(self) -> bool:
        """Whether base and tuned answer differently."""
        return self.base.answer != self.tuned.answer


class Pairing(_Document):
    """Whether the tuned model and another were asked the same, in the same order."""

    tuned_only: list[str] = []
    """Ids that only the tuned model has; these and the next two are left out of the comparison."""
    other_only: list[str] = []
    repeated: list[str] = []
    """Ids that one side has more than once."""
    same_order: bool = True


class Thresholds(_Document):
    """What a model is held to: the recipe's gate section, which says what each is for."""

    metric: MetricName
    min_gain: float
    min_examples: int
    confidence: float
    champion_margin: float
    max_forgetting: float
    max_task_drop: float
    max_contamination: float


class Findings(_Document):
    """What the steps found. A part that is missing is None or empty, and the verdict says so."""

    thresholds: Thresholds | None = None
    """What the findings are held to. None in evidence of version 1."""
    base: dict[str, Any] | None
    """The base's metrics.json."""
    tuned: dict[str, Any] | None
    """The tuned model's metrics.json."""
    champion: dict[str, Any] | None = None
    """The champion's metrics.json, with its `version`. None where there is none, or where it was not scored."""
    has_champion: bool | None = None
    """Whether there was a champion to compare with. None: nobody said."""
    examples: list[PairedExample]
    """The examples that base and tuned both scored, in the base's order."""
    general: list[PairedExample] = []
    """The rows of the general set, with losses only."""
    pairing: dict[str, Pairing] = {}
    """How well the tuned model's examples fit those of `base` and `champion`, and its rows the base's in `general`."""
    safety: Safety | None = None
    """None where the recipe names no policy."""
    data: dict[str, Any] | None
    """The dataset's report.json."""
    mask: dict[str, Any] | None = None
    """The training's mask.json: sample rows, and which of their tokens carry loss."""
    training: dict[str, Any] | None
    """The adapter's training.json."""
    merge: dict[str, Any] | None
    """The merge's parity.json."""
    lineage: dict[str, Any]
    """Recipe, digests and versions, as the run began with them."""


class Evidence(Findings):
    """The bundle: findings, and what follows from them."""

    version: int = VERSION
    """Of this document's shape; raised when a reader of the old shape would misread the new."""
    verdict: Verdict
    checks: list[Check] = []
    """Every check that was made, in the order of the page."""
    comparisons: list[Comparison] = []
    """Every metric that two sides have, against the base and then against the champion."""
    forgetting: Forgetting | None = None
    """None where neither a general set nor a task was measured."""

    @field_validator("version")
    @classmethod
    def _is_known(cls, version: int) -> int:
        if version > VERSION:
            raise ValueError(f"evidence of version {version}; this release reads up to {VERSION}")
        return version

    def difference(self, figure: str) -> float | None:
        """Tuned minus base; None where a side has no such figure."""
        base, tuned = (self.base or {}).get(figure), (self.tuned or {}).get(figure)
        return None if base is None or tuned is None else tuned - base

    def comparison(self, against: Literal["base", "champion"], metric: str) -> Comparison | None:
        """The comparison of one metric with one model; None where it was not made."""
        return next((one for one in self.comparisons if (one.against, one.metric) == (against, metric)), None)

    def write(self, folder: Path) -> None:
        """Write evidence.json and verdict.json into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, document in ((FILE, self), (VERDICT_FILE, self.verdict)):
            (folder / name).write_text(document.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_evidence(folder: Path) -> Evidence:
    """Read a folder's evidence.json.

    Raises:
        ValidationError: it is missing, or is not evidence.
    """
    path = folder / FILE
    try:
        return Evidence.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ValidationError(f"there is no {FILE} in {folder}: the gate writes it, run it first") from error
    except PydanticError as error:
        raise ValidationError(f"{path} is not evidence that this release can read: {error}") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSON lines file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
