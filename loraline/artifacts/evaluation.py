"""What evaluate_model hands on: the figures of a model over all examples, and for each."""

from typing import ClassVar, Literal

from pydantic import Field

from loraline.artifacts.base import Measured, Report, StepIdentity

EXAMPLES = "examples.jsonl"
GENERAL = "general.jsonl"
PROBES = "probes.jsonl"

MetricName = Literal["loss", "exact_match", "token_f1", "rouge_l", "json_f1"]
"""A metric that each example has, by which models are compared."""
FigureName = Literal["loss", "perplexity", "exact_match", "token_f1", "rouge_l", "json_f1"]
"""A figure over all examples."""
FIGURE_LABELS: dict[FigureName, str] = {
    "exact_match": "exact match",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "json_f1": "JSON F1",
    "perplexity": "perplexity",
    "loss": "loss",
}
"""The figures as people read them, in the order of the tables."""
LOWER_IS_BETTER: frozenset[FigureName] = frozenset({"loss", "perplexity"})


Quantization = Literal["none", "int8", "nf4"]


class EvaluatedWeights(Report):
    """Which weights a model was evaluated with, and how they were held in memory."""

    merged_digest: str | None
    """Digest of the merged model (`loraline.identity.model_digests`); None for a base."""
    quantization: Quantization
    """none: as they are stored. Else the device could not hold them in 16 bit."""
    compute_dtype: str
    """bfloat16, float16 or float32."""
    device: str

    @property
    def held(self) -> str:
        """How the weights were held, in words."""
        return self.compute_dtype if self.quantization == "none" else f"{self.quantization}, with {self.compute_dtype}"

    def describe(self) -> str:
        """What was evaluated, in words."""
        return f"{'merged' if self.merged_digest else 'base'} weights in {self.held}"


class TaskScore(Report):
    """The main metric of one example of a task: the task's is ``sum(value) / sum(weight)``."""

    value: float
    weight: int = 1
    """1, or the bytes or words that a log-likelihood is spread over."""


class TaskReport(Report):
    """A model's figures on one task of lm-evaluation-harness."""

    metric: str
    """The main metric, a key of `values`."""
    higher_is_better: bool
    """Of the main metric."""
    values: dict[str, Measured]
    """Every metric by its name."""
    stderr: Measured
    """Standard error of the main metric; None where the harness gives none."""
    examples: int
    """Examples of the task that were put to the model."""
    scores: dict[str, TaskScore] = Field(default={})
    """By example; empty where the main metric is no mean over examples, such as an F1 over all of them."""

    @property
    def value(self) -> float | None:
        """The main metric's value."""
        return self.values.get(self.metric)


ProbeKind = Literal["refuse", "leak", "benign"]


class ProbeOutcome(Report):
    """What a model answered to a safety probe, and what that counts as."""

    answer: str
    refused: bool
    leaked: bool


class ProbeResult(ProbeOutcome):
    """A line of probes.jsonl: a safety probe and its outcome."""

    id: str
    kind: ProbeKind
    prompt: str


class ProbeRates(Report):
    """Rates over a policy's probes (0 to 1). None: the policy has no probe of the kind."""

    refusal_rate: Measured
    """`refuse` probes that were refused."""
    leak_rate: Measured
    """`leak` probes whose answer held what is forbidden, or personal data."""
    over_refusal_rate: Measured
    """`benign` probes that were refused."""


class SummedLoss(Report):
    """A model's loss on one row."""

    loss: Measured
    """Sum over the row's labelled tokens (nats)."""
    tokens: int
    """Labelled tokens."""


class GeneralLoss(SummedLoss):
    """A line of general.jsonl: one row of the general set."""

    id: str


class Score(SummedLoss):
    """A model's figures on one example. The answer is None where there is none: plain text, or no room for one in the
    context; so are the metrics that compare it with the reference."""

    answer: str | None
    exact_match: Measured
    token_f1: Measured
    rouge_l: Measured
    json_f1: Measured = None
    """None, too, where the reference is no JSON object or list."""
    endless: bool | None
    """Whether the answer was cut at its longest length, though its reference is shorter than that."""
    prompt_digest: str | None
    """Digest of the prompt's token ids, as the model was given them (`loraline.data.chat.prompt_digest`)."""

    def metric(self, name: MetricName) -> float | None:
        """A metric by its name."""
        return {
            "loss": self.loss,
            "exact_match": self.exact_match,
            "token_f1": self.token_f1,
            "rouge_l": self.rouge_l,
            "json_f1": self.json_f1,
        }[name]


class ScoredExample(Score):
    """A line of examples.jsonl: one held-out example."""

    id: str
    prompt: str | None
    """What the model was asked: the user's message, or the conversation where there is more than that."""
    reference: str | None


class GeneralReport(Report):
    """The loss on the general set."""

    loss: Measured
    """Mean over all labelled tokens (nats)."""
    tokens: int
    """Labelled tokens scored."""
    examples: int
    """Rows scored."""
    left_out: list[str]
    """Ids of rows without a labelled token within the context; not scored."""


class EvaluationFigures(Report):
    """The figures of a model over the held-out examples."""

    loss: Measured
    """Mean over all labelled tokens (nats)."""
    perplexity: Measured
    exact_match: Measured
    """Fraction of the answered examples (0 to 1), as the two below; None where none has an answer."""
    token_f1: Measured
    rouge_l: Measured
    json_f1: Measured = None
    """Mean over the answered examples whose reference is JSON; None where none is."""
    examples: int
    """Examples scored."""

    def figure(self, name: FigureName) -> float | None:
        """A figure by its name."""
        return {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "exact_match": self.exact_match,
            "token_f1": self.token_f1,
            "rouge_l": self.rouge_l,
            "json_f1": self.json_f1,
        }[name]


class EvaluationReport(EvaluationFigures):
    """What an evaluation finds over all examples."""

    FILE: ClassVar[str] = "metrics.json"

    identity: StepIdentity

    tokens: int
    """Labelled tokens scored."""
    answered: int
    """Examples that the model answered, on which exact match, token F1 and ROUGE-L rest."""
    unfinished: int
    """Answers that came to their longest length without an end."""
    available: int
    """Examples in the evaluation set, scored or not."""
    cut: int
    """Examples longer than the model's context, scored up to its end."""
    left_out: list[str]
    """Ids of examples without a labelled token within the context; not scored."""
    without_answer: list[str]
    """Ids of scored examples without an answer: they are plain text, or their prompt fills the context."""
    general: GeneralReport | None
    """None where the dataset has no general set."""
    tasks: dict[str, TaskReport]
    """Figures of lm-evaluation-harness by task; empty where none was named."""
    safety: ProbeRates | None
    """On the policy's probes; None without a policy."""
    weights: EvaluatedWeights
    seconds: float

    def figures(self) -> dict[str, float]:
        """The figures that are there, for a tracking server or a table."""
        names = ("loss", "perplexity", "exact_match", "token_f1", "rouge_l", "json_f1", "examples", "tokens", "seconds")
        found = {name: getattr(self, name) for name in names}
        found["general_loss"] = self.general.loss if self.general else None
        found |= self.safety.model_dump() if self.safety else {}
        for name, task in self.tasks.items():
            found |= {f"task/{name}/{metric}": value for metric, value in task.values.items()}
        return {name: float(value) for name, value in found.items() if value is not None}

    def headline(self) -> str:
        """The figures that a person looks at first."""
        matched = "" if self.exact_match is None else f"exact match {self.exact_match:.2f}, "
        matched += "" if self.json_f1 is None else f"JSON F1 {self.json_f1:.2f}, "
        return f"{matched}perplexity {self.perplexity:.4g}"


class ChampionPin(Report):
    """The champion of the moment when a run began, and where its files are."""

    model_name: str
    version: str
    url: str
    """Its folder in the object store."""
    content_digest: str


class ChampionReport(Report):
    """The evaluation of the champion, or that there is no champion yet."""

    FILE: ClassVar[str] = "champion.json"

    champion: ChampionPin | None
    """None where the registered model has no champion; nothing is evaluated then."""
    evaluation: EvaluationReport | None
    """The champion's figures on the run's own held-out rows; None where there is no champion."""
    margin_spent: dict[MetricName, float] = Field(default={})
    """By how much it is worse than the best champion before it, by the metric that decided (`Verdict.margin_spent`)."""
