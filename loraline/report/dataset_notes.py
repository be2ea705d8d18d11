"""The report in a few sentences: what is as it should be, and what somebody should look at."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loraline.artifacts.dataset import DatasetReport


@dataclass(frozen=True)
class Note:
    """A sentence of the summary."""

    look: bool
    """Whether somebody should look at it."""
    text: str


def notes(report: "DatasetReport") -> list[Note]:
    """The sentences, in the order of their weight."""
    return [*_comparisons(report), *_contents(report), *_answers(report), *_general(report)]


def _comparisons(report: "DatasetReport") -> Iterator[Note]:
    copied, near = report.contamination, report.near_duplicates
    if copied.contaminated:
        share = (
            f"{copied.fraction:.2%} of the rows to evaluate on ({copied.contaminated:,} of {copied.eval_examples:,})"
        )
        yield Note(True, f"{share} copied in rows to train on; what they measure is partly memory")
    else:
        yield Note(False, "No row to evaluate on is copied in the rows to train on")
    repeats = near.within_train + near.within_eval + near.across
    done = "dropped" if near.dropped else "kept; data.near_duplicates=drop leaves them out"
    if repeats:
        yield Note(near.action == "report", f"{_rows(repeats)} nearly repeating another ({done})")
    else:
        yield Note(False, "No row nearly repeats another")


def _contents(report: "DatasetReport") -> Iterator[Note]:
    personal, policy = report.personal_data, report.policy
    done = {"report": "left as they are", "mask": "masked", "drop": "dropped"}[personal.action]
    if personal.rows:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in personal.found.items())
        yield Note(personal.action == "report", f"{_rows(personal.rows)} with personal data ({kinds}), {done}")
    else:
        yield Note(False, "No personal data was found")
    if policy:
        kinds = ", ".join(f"{number:,} {category}" for category, number in policy.found.items()) or "nothing"
        what = f"The policy {policy.name} finds {kinds}"
        yield Note(policy.rows > policy.dropped, f"{what}; {_rows(policy.dropped)} dropped" if policy.rows else what)


def _answers(report: "DatasetReport") -> Iterator[Note]:
    answers = report.answers
    if answers.empty:
        yield Note(True, f"{_rows(answers.empty)} with an empty answer, left out as bad")
    cut = answers.truncated
    if cut and cut.rows:
        left = f"; no answer is left of {cut.answerless:,}" if cut.answerless else ""
        what = f"{_rows(cut.rows)} to train on longer than training.max_length = {cut.max_length:,} tokens"
        yield Note(True, f"{what}, {cut.tokens_cut:,} tokens cut off{left}")
    elif cut:
        yield Note(False, f"Every row to train on fits into training.max_length = {cut.max_length:,} tokens")


def _general(report: "DatasetReport") -> Iterator[Note]:
    general = report.general
    if general:
        yield Note(False, f"{general.rows:,} general rows, which are not trained on, will show what is forgotten")
    else:
        yield Note(True, "data.general_source is empty: nothing shows what the model forgets")


def _rows(number: int) -> str:
    return f"{number:,} row{'s' * (number != 1)}"
