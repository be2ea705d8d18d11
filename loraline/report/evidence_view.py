"""Evidence with its reports as plain values, for the parts of the page that do not read the classes yet."""

from dataclasses import dataclass
from typing import Any

from loraline.artifacts.base import Report
from loraline.artifacts.evaluation import FigureName
from loraline.artifacts.verdict import Verdict
from loraline.evidence import schema
from loraline.gate.config import GateConfig


@dataclass(frozen=True)
class EvidenceView:
    """The same names as in `loraline.evidence.schema.Evidence`."""

    evidence: schema.Evidence
    base: dict[str, Any] | None
    tuned: dict[str, Any] | None
    champion: dict[str, Any] | None
    data: dict[str, Any] | None
    mask: dict[str, Any] | None
    training: dict[str, Any] | None
    merge: dict[str, Any] | None
    lineage: dict[str, Any]

    @classmethod
    def of(cls, evidence: schema.Evidence) -> "EvidenceView":
        """The view of evidence."""
        champion, evaluation = evidence.champion and evidence.champion.champion, evidence.evaluation("champion")
        return cls(
            evidence=evidence,
            base=_dump(evidence.base),
            tuned=_dump(evidence.tuned),
            champion={**evaluation.model_dump(), "version": champion.version} if evaluation and champion else None,
            data=_dump(evidence.data),
            mask=_dump(evidence.mask),
            training=_dump(evidence.training),
            merge=_dump(evidence.merge),
            lineage=evidence.lineage.model_dump(),
        )

    @property
    def version(self) -> int:
        """Of the schema."""
        return self.evidence.version

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.evidence.verdict

    @property
    def thresholds(self) -> GateConfig:
        """The thresholds."""
        return self.evidence.thresholds

    @property
    def checks(self) -> list[schema.Check]:
        """The checks."""
        return self.evidence.checks

    @property
    def comparisons(self) -> list[schema.Comparison]:
        """The comparisons."""
        return self.evidence.comparisons

    @property
    def examples(self) -> list[schema.PairedExample]:
        """The examples."""
        return self.evidence.examples

    @property
    def forgetting(self) -> schema.Forgetting | None:
        """What was forgotten."""
        return self.evidence.forgetting

    @property
    def safety(self) -> schema.Safety | None:
        """The probes."""
        return self.evidence.safety

    def difference(self, figure: FigureName) -> float | None:
        """Tuned minus base."""
        return self.evidence.difference(figure)


def _dump(report: Report | None) -> dict[str, Any] | None:
    return report.model_dump() if report else None
