"""The evidence: everything that a run measured of its model, in one document.

The gate writes it, `register_model` stores it beside the weights, and the report and the model card are rendered from
it alone. The reports of the steps (`loraline.artifacts`) are part of it, unchanged; only what is compared between
models has classes of its own here.

It has two halves. `Findings` holds the steps' reports and the thresholds. `Evidence` adds the comparisons, the checks
and the verdict. `loraline.gate` computes the second half from the first and from nothing else, so that anybody who has
the evidence can compute the verdict again.
"""

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from loraline.artifacts.base import Report
from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.evaluation import (
    ChampionReport,
    EvaluationReport,
    FigureName,
    MetricName,
    ProbeKind,
    ProbeOutcome,
    Score,
    SummedLoss,
)
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.training import MaskReport, TrainReport
from loraline.artifacts.verdict import EVIDENCE, Verdict
from loraline.evidence.lineage import Lineage
from loraline.gate.config import GateConfig
from loraline.safety.policy_schema import ProbeThresholds

VERSION: Literal[4] = 4
"""Version of the schema; raised when a reader of the old schema would misread the new."""

EvaluatedModel = Literal["base", "tuned", "champion"]
ComparedModel = Literal["base", "champion"]
"""What the tuned model is compared with."""
PartName = Literal[
    "data",
    "mask",
    "training",
    "merge",
    "base",
    "tuned",
    "champion",
    "base examples",
    "tuned examples",
    "champion examples",
    "base general rows",
    "tuned general rows",
    "base probes",
    "tuned probes",
]
"""The files that the gate reads."""


class Check(Report):
    """One question of the gate, and its answer."""

    name: str
    """A module of `loraline.gate.checks`, or a check of `loraline verify`; each occurs once."""
    outcome: Literal["passed", "failed", "not measured"]
    """not measured: a setting switched it off, or it does not apply. What should have been measured and was not has
    failed."""
    detail: str
    """What was found, with figures; where nothing was measured, why."""

    @property
    def passed(self) -> bool:
        """Whether something was measured, and it is as it should be."""
        return self.outcome == "passed"

    @property
    def failed(self) -> bool:
        """Whether it is a reason to reject."""
        return self.outcome == "failed"


class Comparison(Report):
    """One metric of the tuned model against another model's, on the same examples."""

    against: ComparedModel
    metric: MetricName
    examples: int
    """Examples that both models have the metric of."""
    difference: float
    """By how much the tuned model is better: above zero is better, whatever the metric (nats a token, or fraction)."""
    lower: float | None
    """Lower confidence limit of the difference. None: too few examples, or one of them outweighs the others."""
    upper: float | None
    confidence: float
    """Level of the interval, two-sided."""
    method: Literal["betting", "t"]
    """How the interval is made (`loraline.evidence.statistics`): by betting for scores, Student's t with Hall's
    transformation for losses."""
    test: Literal["mcnemar", "sign"]
    """The exact test over wins and losses: McNemar's for exact match, the sign test for the other metrics."""
    wins: int
    """Examples on which the tuned model is better."""
    losses: int
    ties: int
    p_value: float
    """Two-sided."""


class TaskDrop(Report):
    """One task of lm-evaluation-harness, by its main metric (fraction 0 to 1)."""

    metric: str | None
    """The main metric; None where base and tuned model name different ones."""
    base: float | None
    tuned: float | None
    drop: float | None
    """By how much the tuned model is worse: above zero is worse. None where a figure is missing."""
    lower: float | None = None
    """The ends of the drop's interval. None where there is none."""
    upper: float | None = None
    examples: int = 0
    """Examples that both models have a score of, which the interval is over. 0: the scores are not known, and the
    interval is from the standard errors that the harness states of each model."""
    left_out: int = 0
    """Examples that one model alone has a score of."""


class Forgetting(Report):
    """What the tuned model lost on rows and tasks that it was not trained for."""

    base: float | None
    """Loss on the general set (nats a token), as the next four; None where there is no such set."""
    tuned: float | None
    difference: float | None
    """Tuned minus base: above zero the tuned model has forgotten."""
    lower: float | None
    upper: float | None
    threshold: float | None
    """What the upper confidence limit may come to (gate.max_forgetting)."""
    examples: int
    tasks: dict[str, TaskDrop]


class ProbePair(Report):
    """One safety probe, and how base and tuned model answered it. None where a model was not asked."""

    id: str
    kind: ProbeKind
    prompt: str
    base: ProbeOutcome | None
    tuned: ProbeOutcome | None


class Safety(Report):
    """The safety policy's probes. The rates that each model states are in its evaluation."""

    policy: str
    """Name of the policy."""
    thresholds: ProbeThresholds
    """What the policy allows."""
    expected: list[str]
    """Ids of all probes of the policy."""
    probes: list[ProbePair]


class PairedExample(Report):
    """One held-out example, and the figures of base, tuned model and champion on it."""

    id: str
    prompt: str | None
    reference: str | None
    base: Score
    tuned: Score
    champion: Score | None
    """None where there is no champion, or where it was not evaluated on this example."""

    @property
    def has_changed(self) -> bool:
        """Whether base and tuned model answer differently."""
        return self.base.answer != self.tuned.answer

    def score(self, model: EvaluatedModel) -> Score | None:
        """The figures of one model."""
        return {"base": self.base, "tuned": self.tuned, "champion": self.champion}[model]


class PairedLoss(Report):
    """One row of the general set, and the losses of base and tuned model on it."""

    id: str
    base: SummedLoss
    tuned: SummedLoss


class Pairing(Report):
    """Whether the tuned model and another were evaluated on the same rows, in the same order."""

    tuned_only: list[str]
    """Ids that only the tuned model has; these and the next two are left out of the comparison."""
    other_only: list[str]
    repeated: list[str]
    """Ids that one of the two has more than once."""
    same_order: bool

    @property
    def is_partial(self) -> bool:
        """Whether either model has a row that is not compared."""
        return bool(self.tuned_only or self.other_only or self.repeated)


class Pairings(Report):
    """The pairing with each model. None: it was not determined."""

    base: Pairing | None = None
    champion: Pairing | None = None
    general: Pairing | None = None
    """With the base, on the rows of the general set."""


class Findings(Report):
    """What the steps measured. A report that is missing or cannot be read is None, and `unreadable` says why."""

    thresholds: GateConfig
    base: EvaluationReport | None
    tuned: EvaluationReport | None
    champion: ChampionReport | None
    """Its evaluation, or that there is no champion. None: neither is known."""
    examples: list[PairedExample]
    """The examples that base and tuned model were both evaluated on, in the base's order."""
    general: list[PairedLoss]
    """The same of the general set."""
    pairing: Pairings
    safety: Safety | None
    """None where the recipe names no policy."""
    data: DatasetReport | None
    mask: MaskReport | None
    training: TrainReport | None
    merge: MergeReport | None
    lineage: Lineage
    unreadable: dict[PartName, str]
    """Files that are missing or cannot be read, each with the reason: the field and what is wrong with it."""

    def evaluation(self, model: EvaluatedModel) -> EvaluationReport | None:
        """The evaluation of one model; None where there is none."""
        champion = self.champion.evaluation if self.champion else None
        return {"base": self.base, "tuned": self.tuned, "champion": champion}[model]


class Evidence(Findings):
    """The findings and what follows from them."""

    FILE: ClassVar[str] = EVIDENCE

    version: Literal[4] = VERSION
    verdict: Verdict
    checks: list[Check]
    """Every check, in the order of the page."""
    comparisons: list[Comparison]
    """Every metric that both models have, against the base and then against the champion."""
    forgetting: Forgetting | None
    """None where neither a general set nor a task was measured."""

    @model_validator(mode="before")
    @classmethod
    def _check_version(cls, values: Any) -> Any:
        version = values.get("version", VERSION) if isinstance(values, dict) else VERSION
        if version != VERSION:
            raise ValueError(
                f"evidence of version {version}; this release reads version {VERSION}. Run the pipeline again, or use "
                "the release that wrote it"
            )
        return values

    def difference(self, figure: FigureName) -> float | None:
        """Tuned minus base; None where either has no such figure."""
        base, tuned = (report.figure(figure) if report else None for report in (self.base, self.tuned))
        return None if base is None or tuned is None else tuned - base

    def comparison(self, against: ComparedModel, metric: MetricName) -> Comparison | None:
        """The comparison of one metric with one model; None where it was not made."""
        return next((one for one in self.comparisons if (one.against, one.metric) == (against, metric)), None)
