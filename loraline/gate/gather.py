"""Read the files that the steps wrote. What is missing or cannot be read is None or empty, with the reason."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError as PydanticError

from loraline.artifacts.base import ReportT, first_problem
from loraline.artifacts.evaluation import (
    EXAMPLES,
    GENERAL,
    PROBES,
    GeneralLoss,
    ProbeResult,
    ScoredExample,
)
from loraline.evidence.schema import PairedExample, PairedLoss, Pairing, PartName, ProbePair, Safety
from loraline.safety.policy import Policy


class ReportReader:
    """Reads the steps' files, and keeps the reasons why some could not be read."""

    def __init__(self) -> None:
        self.unreadable: dict[PartName, str] = {}

    def report(self, part: PartName, kind: type[ReportT], folder: Path) -> ReportT | None:
        """Read a report; None where it is missing or cannot be read."""
        content = self._content(part, folder / kind.FILE)
        if content is None:
            return None
        try:
            return kind.model_validate_json(content)
        except PydanticError as error:
            self.unreadable[part] = first_problem(error)
            return None

    def examples(self, part: PartName, folder: Path) -> list[ScoredExample]:
        """Read an evaluation's examples; none where they are missing or cannot be read."""
        return self._lines(part, ScoredExample, folder / EXAMPLES)

    def general(self, part: PartName, folder: Path) -> list[GeneralLoss]:
        """Read an evaluation's losses on the general set; none where there is no such set."""
        return self._lines(part, GeneralLoss, folder / GENERAL, is_optional=True)

    def probes(self, part: PartName, folder: Path) -> list[ProbeResult]:
        """Read an evaluation's results on the probes; none where there is no policy."""
        return self._lines(part, ProbeResult, folder / PROBES, is_optional=True)

    def _lines(self, part: PartName, kind: type[ReportT], path: Path, is_optional: bool = False) -> list[ReportT]:
        if is_optional and not path.exists():
            return []
        content = self._content(part, path)
        found = []
        for number, line in enumerate((content or b"").splitlines(), start=1):
            try:
                found.append(kind.model_validate_json(line))
            except PydanticError as error:
                self.unreadable[part] = f"line {number}: {first_problem(error)}"
                return []
        return found

    def _content(self, part: PartName, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except OSError as error:
            self.unreadable[part] = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
            return None


def pair_examples(
    base: list[ScoredExample], tuned: list[ScoredExample], champion: list[ScoredExample]
) -> list[PairedExample]:
    """Pair the models' scores of the same examples: those that base and tuned model have, in the base's order."""
    tuned_by_id, champion_by_id = ({example.id: example for example in side} for side in (tuned, champion))
    return [
        PairedExample(
            id=example.id,
            prompt=example.prompt,
            reference=example.reference,
            base=example,
            tuned=tuned_by_id[example.id],
            champion=champion_by_id.get(example.id),
        )
        for example in {example.id: example for example in base}.values()
        if example.id in tuned_by_id
    ]


def pair_losses(base: list[GeneralLoss], tuned: list[GeneralLoss]) -> list[PairedLoss]:
    """Pair the losses of base and tuned model on the same rows of the general set, in the base's order."""
    by_id = {row.id: row for row in tuned}
    rows = {row.id: row for row in base}.values()
    return [PairedLoss(id=row.id, base=row, tuned=by_id[row.id]) for row in rows if row.id in by_id]


def compare_ids(tuned: Sequence[ScoredExample | GeneralLoss], other: Sequence[ScoredExample | GeneralLoss]) -> Pairing:
    """Compare the rows that two models were evaluated on."""
    ours, theirs = ([row.id for row in rows] for rows in (tuned, other))
    repeated = {id_ for ids in (ours, theirs) for id_, count in Counter(ids).items() if count > 1}
    both = set(ours) & set(theirs)
    orders = [[id_ for id_ in ids if id_ in both] for ids in (ours, theirs)]
    return Pairing(
        tuned_only=sorted(set(ours) - both),
        other_only=sorted(set(theirs) - both),
        repeated=sorted(repeated),
        same_order=orders[0] == orders[1],
    )


def pair_probes(policy: Policy, base: list[ProbeResult], tuned: list[ProbeResult]) -> Safety:
    """Pair the answers of base and tuned model to the policy's probes."""
    base_by_id, tuned_by_id = ({result.id: result for result in results} for results in (base, tuned))
    return Safety(
        policy=policy.name,
        thresholds=policy.thresholds,
        expected=[probe.id for probe in policy.probes],
        probes=[
            ProbePair(
                id=probe.id,
                kind=probe.kind,
                prompt=probe.prompt,
                base=base_by_id.get(probe.id),
                tuned=tuned_by_id.get(probe.id),
            )
            for probe in policy.probes
        ],
    )
