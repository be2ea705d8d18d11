"""The evidence bundle: all that a run found out about its model, in one document.

The gate writes it, `register_model` stores it beside the weights, and the report and the model card are
made from it alone. The reports of the steps stand in it as the steps wrote them; only what is compared
has a shape of its own here.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import ValidationError as PydanticError

from components.shared.errors import ValidationError

FILE = "evidence.json"
VERDICT_FILE = "verdict.json"
VERSION = 1

MetricName = Literal["loss", "exact_match", "token_f1", "rouge_l"]
VerdictName = Literal["promote", "reject"]

LOWER_IS_BETTER = frozenset({"loss", "perplexity"})
FIGURES = ("exact_match", "token_f1", "rouge_l", "perplexity", "loss")


class _Document(BaseModel):
    """A part of the bundle. NaN is written as null, because JSON has no other word for it."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


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
    """What the gain has to exceed."""
    examples: int
    """Examples that the gain rests on."""


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


class PairedExample(_Document):
    """One held-out example, and what base and tuned made of it."""

    id: str
    prompt: str | None = None
    reference: str | None = None
    base: Scored
    tuned: Scored

    @property
    def has_changed(self) -> bool:
        """Whether the two models answer differently."""
        return self.base.answer != self.tuned.answer


class Evidence(_Document):
    """The bundle. A part that is missing is None or empty, and the verdict says so."""

    version: int = VERSION
    """Of this document's shape; raised when a reader of the old shape would misread the new."""
    verdict: Verdict
    base: dict[str, Any] | None
    """The base's metrics.json."""
    tuned: dict[str, Any] | None
    """The tuned model's metrics.json."""
    examples: list[PairedExample]
    """The examples that both sides scored, by id."""
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


def pair_examples(base: list[dict[str, Any]], tuned: list[dict[str, Any]]) -> list[PairedExample]:
    """Bring together what two models made of the same examples; those of one side only are left out."""
    of_tuned = {example["id"]: example for example in tuned}
    both = ((example, of_tuned[example["id"]]) for example in base if example["id"] in of_tuned)
    return [PairedExample.model_validate({**of_base, "base": of_base, "tuned": of_other}) for of_base, of_other in both]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSON lines file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
