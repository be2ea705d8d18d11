"""The check `answers`: the tuned model's answers are not empty, endless or all alike, whatever the metric says."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from loraline.artifacts.evaluation import Score
from loraline.evidence.schema import Check, Findings, PairedExample
from loraline.gate.measurements import Measurements
from loraline.gate.wording import is_above, make_check, not_made, not_measured

_MIN_VARIETY = 0.2
"""Part of the references' variety that the answers must have."""
_ONE_FOR_ALL = 0.8
"""Where so many references or prompts are the same one, an honest model may give it each time."""


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check the answers against gate.max_degenerate, and against base, references and prompts."""
    if not findings.examples:
        missing = [part for part in ("base examples", "tuned examples") if part in findings.unreadable]
        faults = not_made(findings, *missing) or ["not made: base and tuned model have no scored example in common"]
        return make_check("answers", faults)
    answered = [one for one in findings.examples if one.tuned.answer is not None]
    if not answered:
        return not_measured("answers", "the rows are plain text or fill the context, so that no answer is generated")
    limit = findings.thresholds.max_degenerate
    faults, details = [], []
    for fault, detail in (_empty(answered, limit), _endless(answered, limit), _alike(answered, limit)):
        faults += [fault] if fault else []
        details.append(detail)
    return make_check("answers", faults, f"of {len(answered)} answers {', '.join(details)}")


def _empty(answered: Sequence[PairedExample], limit: float) -> tuple[str, str]:
    count = sum(not (one.tuned.answer or "").strip() for one in answered)
    found = f"{count} of {len(answered)} answers are empty, more than gate.max_degenerate = {limit:g}"
    return found if is_above(count / len(answered), limit) else "", f"{count} are empty"


def _endless(answered: Sequence[PairedExample], limit: float) -> tuple[str, str]:
    """Answers that were cut although their reference is shorter. A base that never ends may be mended in part."""
    tuned, base = (sum(bool(score.endless) for score in scores) for scores in _sides(answered))
    allowed = max(limit, base / len(answered) / 2)
    fault = (
        f"{tuned} of {len(answered)} answers had not ended at evaluation.max_new_tokens, though their references are "
        f"shorter (base: {base}): more than gate.max_degenerate = {limit:g} and more than half of the base's"
    )
    return fault if is_above(tuned / len(answered), allowed) else "", f"{tuned} endless (base: {base})"


def _sides(answered: Sequence[PairedExample]) -> tuple[list[Score], list[Score]]:
    return [one.tuned for one in answered], [one.base for one in answered]


def _alike(answered: Sequence[PairedExample], limit: float) -> tuple[str, str]:
    """Answers must differ where references and prompts do: in number, and in the share of the most frequent one."""
    answers = Counter((one.tuned.answer or "").strip() for one in answered)
    expected = [Counter(one.reference for one in answered), Counter(one.prompt for one in answered)]
    distinct = min(map(len, expected))
    usual = max(_largest_share(one) for one in expected)
    share = _largest_share(answers)
    variety = min(_MIN_VARIETY, 1 - limit)  # nothing is asked for where all may be degenerate
    are_few = len(answers) < variety * distinct
    is_one = usual < _ONE_FOR_ALL and is_above(variety * (1 - usual), 1 - share)
    [(text, count)] = answers.most_common(1)
    fault = (
        f"the answers are all alike: {len(answers)} distinct ones of {len(answered)}, where references and prompts "
        f"have {distinct}; {count} are {text[:60]!r}"
    )
    detail = f"{len(answers)} distinct (references and prompts: {distinct})"
    return fault if are_few or is_one else "", detail


def _largest_share(counts: Counter[Any]) -> float:
    return max(counts.values()) / counts.total()
