"""The checks of a dataset, as the dataset page, the run's page and the model card list them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loraline.artifacts.dataset import (
    AnswerProblems,
    Contamination,
    ContentReport,
    DatasetReport,
    GeneralSet,
    NearDuplicates,
    PersonalDataFindings,
    PolicyFindings,
    RowNote,
    TruncatedRow,
    Truncation,
)
from loraline.report.formatting import figure, percent

Example = tuple[str, str]
"""Where a row is (file and line), and what is there."""


@dataclass(frozen=True)
class ExampleList:
    """Some rows of all that a check counts."""

    examples: Sequence[Example]
    total: int
    """Number of rows that the check counts."""

    def first(self, most: int) -> Sequence[Example]:
        """The first rows."""
        return self.examples[:most]

    def omitted(self, most: int) -> int:
        """Number of rows that `first` leaves out."""
        return max(self.total, len(self.examples)) - len(self.first(most))


@dataclass(frozen=True)
class DatasetCheck:
    """One check of a dataset."""

    title: str
    summary: str
    """The result in a sentence, with its figures."""
    needs_attention: bool
    """Whether somebody should look at it before the dataset is used."""
    rows: ExampleList
    method: str = ""
    """How it was measured."""

    @property
    def outcome(self) -> str:
        """The result in a word."""
        return "attention" if self.needs_attention else "passed"


def dataset_checks(report: DatasetReport) -> list[DatasetCheck]:
    """Every check of a dataset, first those that bear on what the evaluation measures."""
    return [
        _contamination(report.contamination),
        _near_duplicates(report.near_duplicates),
        _personal_data(report.personal_data),
        *([_policy(report.policy)] if report.policy else []),
        *_answers(report.answers),
        _content(report.content),
        *([_changes(report.notes)] if any(not note.left_out for note in report.notes) else []),
        _general(report.general),
    ]


def _contamination(found: Contamination) -> DatasetCheck:
    share = f" ({percent(found.fraction)})" if found.contaminated else ""
    copied = f"{figure(found.contaminated)} of {figure(found.eval_examples)} held-out rows{share} are copied in"
    effect = "; on these the evaluation measures memorization" if found.contaminated else ""
    examples = [
        (one.origin, f"{percent(one.word_overlap)} as in {one.train_origin}: {one.excerpt}") for one in found.examples
    ]
    method = (
        f"Word {found.n}-grams are compared, without case and punctuation; those that many rows share do not count. A "
        "held-out row is a copy if most of its prompt, its completion or both is found in one training row."
    )
    return _check("contamination", f"{copied} training rows{effect}", found.contaminated, examples, method)


def _near_duplicates(found: NearDuplicates) -> DatasetCheck:
    count = found.within_train + found.within_eval + found.across
    examples = [
        (one.origin, f"{percent(one.similarity)} like {one.other_origin}: {one.excerpt}") for one in found.examples
    ]
    done = "dropped" if found.dropped else "kept; data.near_duplicates=drop removes them"
    summary = (
        f"{rows(count)} nearly identical to another: {figure(found.within_train)} within train, "
        f"{figure(found.within_eval)} within eval, {figure(found.across)} across train and eval; {done}"
    )
    method = f"Jaccard similarity of the word trigrams of two rows, from {figure(found.similarity)}."
    check = _check("near-duplicates", summary if count else "none", count, examples, method)
    return check if found.action == "report" else _settled(check)


def _personal_data(found: PersonalDataFindings) -> DatasetCheck:
    done = {"report": "unchanged", "mask": "masked", "drop": "dropped"}[found.action]
    summary = f"{rows(found.rows)} with {_by_kind(found.counts)}; {done}" if found.rows else "none found"
    method = (
        "E-mail addresses, phone, card, account and social security numbers, public IP addresses and secret keys. "
        "Names and street addresses are not detected."
    )
    examples = [(one.origin, f"{one.category}: {one.excerpt}") for one in found.examples]
    check = _check("personal data", summary, sum(found.counts.values()), examples, method)
    return check if found.action == "report" else _settled(check)


def _policy(found: PolicyFindings) -> DatasetCheck:
    summary = f"no row matches policy {found.name}"
    if found.rows:
        matched = f"{rows(found.rows)} matched by policy {found.name}"
        summary = f"{matched}: {_by_kind(found.counts)}; {figure(found.dropped)} dropped"
    examples = [(one.origin, f"{one.category}: {one.excerpt}") for one in found.examples]
    check = _check("safety policy", summary, sum(found.counts.values()), examples)
    return check if found.rows > found.dropped else _settled(check)


def _answers(found: AnswerProblems) -> Iterator[DatasetCheck]:
    empty = [(origin, "the completion is empty") for origin in found.empty_origins]
    summary = f"{rows(found.empty)}, dropped as invalid" if found.empty else "none"
    yield _check("empty completions", summary, found.empty, empty)
    if found.truncation:
        yield _truncation(found.truncation)


def _content(found: ContentReport) -> DatasetCheck:
    lost = found.without_prompt + found.without_answer
    summary = f"prompts and answers of {rows(found.rows)} are found again in their tokens"
    if lost:
        summary = (
            f"of {rows(found.rows)} that were decoded from their tokens {figure(found.without_prompt)} lack the prompt "
            f"and {figure(found.without_answer)} the answer"
        )
    examples = [(one.origin, f"{one.text} became {one.tokens}") for one in found.examples]
    method = "Rows are encoded as training encodes them, and decoded; half of a text's words must be there."
    return _check("content in tokens", summary, lost, examples, method)


def _truncation(found: Truncation) -> DatasetCheck:
    limit = f"training.max_length = {figure(found.max_length)} tokens"
    summary = f"no training row is longer than {limit}"
    if found.rows:
        summary = f"{rows(found.rows)} longer than {limit}, {figure(found.tokens_cut)} tokens truncated"
    if found.rows_without_answer:
        summary += f"; of {figure(found.rows_without_answer)} no token of the completion is left"
    examples = [(one.origin, _truncated(one)) for one in found.examples]
    method = "Measured on the rows as training encodes them, chat template included."
    return _check("truncation", summary, found.rows, examples, method)


def _truncated(row: TruncatedRow) -> str:
    lost = f"{figure(row.tokens)} tokens, {figure(row.tokens_cut)} truncated"
    return f"{lost}, none of the completion left" if row.without_answer else lost


def _changes(notes: Sequence[RowNote]) -> DatasetCheck:
    """What was changed, or not read, of rows that are kept."""
    kept = [note for note in notes if not note.left_out]
    summary = "; ".join(f"{rows(note.rows)}: {note.kind}" for note in kept)
    examples = [(origin, note.kind) for note in kept for origin in note.origins]
    return DatasetCheck("changes to rows", summary, False, ExampleList(examples, sum(note.rows for note in kept)))


def _general(found: GeneralSet | None) -> DatasetCheck:
    if found is None:
        summary = "data.general_source is empty: forgetting is not measured on general rows"
        return DatasetCheck("general set", summary, True, ExampleList([], 0))
    dropped = {
        "invalid": found.bad,
        "duplicate": found.duplicates,
        "screened out": found.screened,
        "left out for what they are": found.left_out,
        "also in training": found.train_overlap,
    }
    counts = ", ".join(f"{figure(count)} {kind}" for kind, count in dropped.items() if count)
    summary = f"{rows(found.rows)} of {found.source} to measure forgetting on{'; dropped: ' if counts else ''}{counts}"
    return DatasetCheck("general set", summary, False, ExampleList([], 0), f"Fingerprint {found.fingerprint}.")


def _check(title: str, summary: str, count: int, examples: Sequence[Example], method: str = "") -> DatasetCheck:
    return DatasetCheck(title, summary, bool(count), ExampleList(examples, count), method)


def _settled(check: DatasetCheck) -> DatasetCheck:
    """The check where the rows were dropped or masked, as the recipe asks."""
    return DatasetCheck(check.title, check.summary, False, check.rows, check.method)


def _by_kind(counts: dict[str, int]) -> str:
    return ", ".join(f"{figure(count)} {kind}" for kind, count in sorted(counts.items()))


def rows(count: int) -> str:
    """A number of rows in words."""
    return f"{count:,} row{'s' * (count != 1)}"
