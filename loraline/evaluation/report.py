"""What an evaluation finds, over all examples and for each."""

import math
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from loraline.data.rows import Message

TaskFigures = dict[str, float | int | str | bool | None]
"""A task's metrics by their names, the main one first; and `stderr` (of the main one), `examples`, `metric` (the
main one's name) and `higher_is_better`."""

_BESIDE_METRICS = {"stderr", "examples", "metric", "higher_is_better"}


class ScoredExample(BaseModel):
    """One example. The answer is None where there is none: plain text, or no room in the context."""

    model_config = ConfigDict(frozen=True)

    id: str
    prompt: str | None
    """What the model was asked: the user's message, or the conversation where there is more than that."""
    prompt_digest: str | None
    """Digest of the tokens that the model was asked with (`loraline.data.chat.prompt_digest`)."""
    reference: str | None
    answer: str | None
    loss: float
    """Sum over the example's labelled tokens (nats)."""
    tokens: int
    """Labelled tokens."""
    exact_match: float | None
    token_f1: float | None
    rouge_l: float | None


class GeneralLoss(BaseModel):
    """One row of the general set."""

    model_config = ConfigDict(frozen=True)

    id: str
    loss: float
    """Sum over the row's labelled tokens (nats)."""
    tokens: int
    """Labelled tokens."""


class GeneralReport(BaseModel):
    """The loss on the general set."""

    model_config = ConfigDict(frozen=True)

    loss: float
    """Mean over all labelled tokens (nats)."""
    tokens: int
    """Labelled tokens scored."""
    examples: int
    """Rows scored."""
    left_out: list[str]
    """Ids of rows without a labelled token within the context; not scored."""


class EvaluateReport(BaseModel):
    """What an evaluation finds over all examples. Also written as metrics.json."""

    model_config = ConfigDict(frozen=True)

    loss: float
    """Mean over all labelled tokens (nats)."""
    perplexity: float
    exact_match: float | None
    """Fraction of the answered examples (0 to 1), as the two below; None where none has an answer."""
    token_f1: float | None
    rouge_l: float | None
    examples: int
    """Examples scored."""
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
    tasks: dict[str, TaskFigures]
    """Figures of lm-evaluation-harness by task; empty where none was named."""
    safety: dict[str, float] | None
    """refusal_rate, leak_rate and over_refusal_rate (0 to 1) on the policy's probes; None without a policy."""
    adapter_digest: str | None
    """Digest of the adapter that was on the model (`loraline.identity.model_digests`); None where there was none."""
    seconds: float

    def figures(self) -> dict[str, float]:
        """The figures that are there, for a tracking server or a table."""
        names = ("loss", "perplexity", "exact_match", "token_f1", "rouge_l", "examples", "tokens", "seconds")
        found = {name: getattr(self, name) for name in names}
        found["general_loss"] = self.general.loss if self.general else None
        found |= self.safety or {}
        found |= {
            f"task/{task}/{metric}": value
            for task, figures in self.tasks.items()
            for metric, value in figures.items()
            if metric not in _BESIDE_METRICS
        }
        return {name: float(value) for name, value in found.items() if value is not None}

    def headline(self) -> str:
        """The figures that a person looks at first."""
        matched = "" if self.exact_match is None else f"exact match {self.exact_match:.2f}, "
        return f"{matched}perplexity {self.perplexity:.4g}"


class ScoredChampion(BaseModel):
    """Which model the champion's figures are of."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model_name: str
    version: str
    url: str
    content_digest: str
    scored: str
    """What was scored: its `adapter` on the run's own base, or its `merged` model."""


class ChampionReport(EvaluateReport):
    """What the champion's evaluation finds."""

    champion: ScoredChampion


def prompt_text(messages: list[Message]) -> str:
    """A conversation, for people: a single user message as it is, others with their roles."""
    if [message["role"] for message in messages] == ["user"]:
        return messages[0]["content"]
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def mean(values: list[float | None]) -> float | None:
    """Mean of what is there, the same to the bit in any order; None where nothing is."""
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there else None


def write_report(report: EvaluateReport, folder: Path) -> None:
    """Write metrics.json."""
    (folder / "metrics.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")


def write_lines(items: Iterable[BaseModel], path: Path) -> None:
    """Write JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{item.model_dump_json()}\n" for item in items)
