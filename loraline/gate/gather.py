"""Read what the steps wrote. Whatever is missing or unreadable becomes None or empty, and the verdict says so."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loraline.evidence.schema import PairedExample, Pairing, ProbePair, Safety, Scored, read_lines
from loraline.safety import Policy

Lines = list[dict[str, Any]]


def read_report(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def read_scored(path: Path) -> Lines:
    """Scored examples or rows; none where the file is not there or is something else."""
    lines = _read_lines(path)
    try:
        for line in lines:
            Scored.model_validate(line)
    except ValidationError:
        return []
    return lines if all("id" in line for line in lines) else []


def read_champion(evaluation: Path) -> tuple[dict[str, Any] | None, bool | None]:
    """The champion's figures, with its version, and whether there is one; None and None where nobody says."""
    figures = read_report(evaluation / "metrics.json")
    if figures is None:
        return None, None
    named = figures.get("champion")
    if "champion" in figures and named is None:
        return None, False
    return {**figures, "version": named.get("version") if isinstance(named, dict) else None}, True


def read_safety(policy: Policy | None, base: Path, tuned: Path) -> Safety | None:
    """The policy's probes, and what base and tuned made of them; None without a policy."""
    if policy is None:
        return None
    sides = {"base": base, "tuned": tuned}
    answers = {side: _read_probes(folder / "probes.jsonl") for side, folder in sides.items()}
    pairs = []
    for probe in policy.probes:
        pair: dict[str, Any] = {"id": probe.id, "kind": probe.kind, "prompt": probe.prompt}
        for side, found in answers.items():
            if result := found.get(probe.id):
                pair |= {side: result.get("answer")}
                pair |= {f"{side}_{outcome}": result.get(outcome) for outcome in ("refused", "leaked")}
        pairs.append(ProbePair.model_validate(pair))
    stated = {side: (read_report(folder / "metrics.json") or {}).get("safety") for side, folder in sides.items()}
    return Safety(
        policy=policy.name,
        budget=policy.budget.model_dump(mode="json"),
        expected=[probe.id for probe in policy.probes],
        probes=pairs,
        **{side: rates if isinstance(rates, dict) else None for side, rates in stated.items()},
    )


def pair(base: Lines, tuned: Lines, champion: Lines | None = None) -> list[PairedExample]:
    """Bring together what the models made of the same examples: those that base and tuned have, in the base's order."""
    sides = {"base": base, "tuned": tuned, "champion": champion or []}
    by_id = {side: {str(line["id"]): line for line in lines} for side, lines in sides.items()}
    return [
        PairedExample.model_validate(
            {"id": name, **{key: own.get(key) for key in ("prompt", "reference")}}
            | {side: found[name] for side, found in by_id.items() if name in found}
        )
        for name, own in by_id["base"].items()
        if name in by_id["tuned"]
    ]


def compare_ids(tuned: Lines, other: Lines) -> Pairing:
    """Whether two sides were asked the same, in the same order."""
    ours, theirs = ([str(line["id"]) for line in lines] for lines in (tuned, other))
    twice = {name for side in (ours, theirs) for name, count in Counter(side).items() if count > 1}
    both = set(ours) & set(theirs)
    orders = [[name for name in side if name in both] for side in (ours, theirs)]
    return Pairing(
        tuned_only=sorted(set(ours) - both),
        other_only=sorted(set(theirs) - both),
        repeated=sorted(twice),
        same_order=orders[0] == orders[1],
    )


def _read_probes(path: Path) -> dict[str, dict[str, Any]]:
    """Results of probes by id; those that are no results are left out, and so are missing."""
    return {
        str(line.get("id")): line
        for line in _read_lines(path)
        if isinstance(line.get("answer"), str)
        and all(isinstance(line.get(outcome), bool) for outcome in ("refused", "leaked"))
    }


def _read_lines(path: Path) -> Lines:
    try:
        lines = read_lines(path)
    except (FileNotFoundError, ValueError):
        return []
    return lines if all(isinstance(line, dict) for line in lines) else []
