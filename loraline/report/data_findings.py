"""What was found out about the data, as the page lists it: each finding with its figure, its words and examples."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from loraline.report import formatting
from loraline.report.formatting import figure

_MOST_EXAMPLES = 20
_WHERE = ("in training", "in evaluation", "in training like one in evaluation")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    title: str
    amount: str
    """The figure."""
    note: str
    is_concern: bool
    """Whether there is anything that a user of the model should know."""
    examples: list[tuple[str, str]] = field(default_factory=list)
    """Where (file and line), and what stands there."""
    more: int = 0
    """Examples that are not shown."""


def findings(data: dict[str, Any]) -> list[Finding]:
    """The findings of a dataset's report, worst first for a reader: what could make the figures untrue."""
    kinds = {
        "contamination": _contamination,
        "near_duplicates": _near_duplicates,
        "personal_data": _personal_data,
        "policy": _policy,
        "answers": _answers,
        "general": _general,
    }
    return [finding for key, read in kinds.items() if data.get(key) for finding in read(data[key])]


def rejected_rows(data: dict[str, Any]) -> list[Finding]:
    """The rows that were left out, with the lines that they stood on."""
    counts = data.get("rows") or {}
    kinds = ", ".join(f"{kind} {figure(count)}" for kind, count in sorted((data.get("bad_kinds") or {}).items()))
    bad = [(f"{row['file']}:{row['line']}", _reason(row)) for row in data.get("bad_rows") or []]
    found = [_finding("invalid rows", counts.get("bad", len(bad)), kinds, bad)]
    for key, count, title in (
        ("duplicates", "duplicates", "duplicate rows"),
        ("prompt_overlaps", "prompt_overlap", "rows whose prompt the other split has"),
    ):
        rows = [(row["origin"], f"like {row['other_origin']}") for row in data.get(key) or []]
        found.append(_finding(title, counts.get(count, len(rows)), "dropped", rows))
    return [one for one in found if one.examples]


def labels(counts: dict[str, dict[str, int]]) -> list[tuple[str, str]]:
    """Labels with their rows of train and of eval, the most frequent in train first."""
    ordered = sorted(counts.items(), key=lambda item: (-(item[1].get("train") or 0), item[0]))
    return [(name, f"{figure(n.get('train'))} / {figure(n.get('eval'))}") for name, n in ordered]


def _contamination(found: dict[str, Any]) -> list[Finding]:
    total = figure(found.get("eval_examples"))
    note = f"of {total} held-out rows are copied in training, in runs of {found.get('n', 'several')} words or more"
    examples = [
        (_origin(one), f"{formatting.percent(one.get('word_overlap'))} as in {one.get('train_origin')}: {_text(one)}")
        for one in found.get("examples") or []
    ]
    return [_finding("evaluation copied in training", found.get("contaminated") or 0, note, examples)]


def _near_duplicates(found: dict[str, Any]) -> list[Finding]:
    counts = [found.get(key) or 0 for key in ("within_train", "within_eval", "across")]
    parts = (f"{figure(count)} {where}" for count, where in zip(counts, _WHERE, strict=True))
    note = f"rows: {', '.join(parts)}{_dropped(found)}; similarity from {figure(found.get('similarity'))}"
    examples = [
        (_origin(one), f"{formatting.percent(one.get('similarity'))} like {one.get('other_origin')}: {_text(one)}")
        for one in found.get("examples") or []
    ]
    return [_finding("near duplicates", sum(counts), note, examples)]


def _personal_data(found: dict[str, Any]) -> list[Finding]:
    count = found.get("rows") or 0
    action = {"report": ", left as they are", "mask": ", masked"}.get(str(found.get("action")), "") if count else ""
    note = f"rows{action}{_dropped(found)}{_kinds(found)}"
    examples = [(_origin(one), f"{one.get('category')}: {_text(one)}") for one in found.get("examples") or []]
    return [_finding("personal data", count, note, examples)]


def _policy(found: dict[str, Any]) -> list[Finding]:
    note = f"rows with what the policy {found.get('name')} names{_dropped(found)}{_kinds(found)}"
    examples = [(_origin(one), f"{one.get('category')}: {_text(one)}") for one in found.get("examples") or []]
    return [_finding("policy", found.get("rows") or 0, note, examples)]


def _answers(found: dict[str, Any]) -> list[Finding]:
    empty = [(str(origin), "the answer is empty") for origin in found.get("empty_origins") or []]
    findings = [_finding("empty answers", found.get("empty") or 0, "rows, left out as invalid", empty)]
    cut = found.get("truncation")
    if isinstance(cut, dict):
        examples = [
            (
                _origin(one),
                f"{figure(one.get('tokens'))} tokens, {figure(one.get('tokens_cut'))} cut off",
            )
            for one in cut.get("examples") or []
        ]
        note = f"rows longer than training.max_length = {figure(cut.get('max_length'))}"
        if cut.get("rows"):
            note += f"; {figure(cut.get('tokens_cut'))} tokens cut off"
        if cut.get("rows_without_answer"):
            note += f"; of {figure(cut['rows_without_answer'])} rows no answer is left"
        findings.append(_finding("answers cut off", cut.get("rows") or 0, note, examples))
    return findings


def _general(found: dict[str, Any]) -> list[Finding]:
    left_out = {
        "bad": "not valid",
        "duplicates": "duplicates",
        "screened": "screened out",
        "train_overlap": "left out because train has them",
    }
    counts = [f"{figure(found[key])} {name}" for key, name in left_out.items() if found.get(key)]
    note = "; ".join([f"rows of {found.get('source')} to measure forgetting on", *counts])
    return [Finding("general set", figure(found.get("rows") or 0), note, is_concern=False)]


def _dropped(found: dict[str, Any]) -> str:
    return f"; {figure(found['dropped'])} dropped" if found.get("dropped") else ""


def _kinds(found: dict[str, Any]) -> str:
    counts = ", ".join(f"{name} {figure(count)}" for name, count in sorted((found.get("counts") or {}).items()))
    return f"; {counts}" if counts else ""


def _origin(example: dict[str, Any]) -> str:
    return str(example.get("origin") or "")


def _finding(title: str, count: int, note: str, examples: Iterable[tuple[str, str]]) -> Finding:
    listed = list(examples)
    shown = listed[:_MOST_EXAMPLES]
    return Finding(title, figure(count), note, bool(count), shown, max(count, len(listed)) - len(shown))


def _text(example: dict[str, Any]) -> str:
    return formatting.shorten(str(example.get("excerpt") or ""))


def _reason(row: dict[str, Any]) -> str:
    return f"{row['column']} {row['reason']}" if row.get("column") else str(row["reason"])
