"""The step prepare_dataset: read, validate, screen, deduplicate, split, compare and describe rows."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from loraline import progress
from loraline.artifacts.dataset import AnswerProblems, DatasetReport, Duplicate, GeneralSet, RowCounts, SourceReport
from loraline.artifacts.dataset_files import PAGE, RowSet
from loraline.data.config import DataConfig
from loraline.data.dataset_writer import DatasetWriter
from loraline.data.description.describe import DatasetDescriber, DatasetDescription
from loraline.data.description.lengths import token_counter
from loraline.data.fingerprint import fingerprint_of
from loraline.data.ingest import Ingested, ingest, sources_to_prepare
from loraline.data.reading.chunker import Chunker
from loraline.data.row_screening import RowScreener
from loraline.data.similarity.compare import SimilarityResult, compare_rows
from loraline.data.source_config import SourceRequest
from loraline.data.template_check import TemplateCheck
from loraline.data.validation.bad_rows import BadRowLog
from loraline.data.validation.notes import NoteLog
from loraline.errors import DatasetError
from loraline.identity.step_identity import step_identity
from loraline.models.folder import load_tokenizer
from loraline.report.dataset_page import render_dataset_page
from loraline.safety.policy import Policy


@dataclass(frozen=True)
class _Results:
    """What the passes over the rows came to."""

    config: DataConfig
    ingested: list[Ingested]
    bad: BadRowLog
    notes: NoteLog
    screener: RowScreener
    dataset: DatasetWriter
    duplicates: list[Duplicate]
    prompt_overlaps: list[Duplicate]
    similarity: SimilarityResult
    description: DatasetDescription


def prepare(
    config: DataConfig,
    tokenizer_folder: Path,
    output: Path,
    max_length: int | None = None,
    policy: Policy | None = None,
) -> DatasetReport:
    """Prepare a dataset.

    Writes train.parquet, eval.parquet, report.json, report.html and bad_rows.jsonl into `output`, and general.parquet
    if there is a general source. Three passes stream over the rows: they are read and written, compared with one
    another, and described. Memory holds about 120 bytes a row and a few batches; a temporary folder holds 4 bytes a
    word.

    Args:
        config: where rows come from, and how they are processed.
        tokenizer_folder: the base model's tokenizer.
        output: made if it does not exist.
        max_length: `training.max_length`; None: truncation is not measured.
        policy: the safety policy that rows are screened with, and whose system prompt conversations begin with.

    Raises:
        ConfigurationError: a setting has no effect on these rows.
        DatasetError: a source cannot be read, too many rows are bad, a split is empty, or the chat template loses what
            the rows say.
        StorageError: the object store cannot be reached or refuses access.
    """
    output.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(tokenizer_folder)
    chunker = _chunker(config, tokenizer, max_length)
    screener = RowScreener(config.personal_data, policy)
    notes, template = NoteLog(), TemplateCheck(tokenizer)
    with tempfile.TemporaryDirectory(prefix="loraline-data-") as folder:
        scratch = Path(folder)
        general = bool(config.general_source)
        with BadRowLog(output) as bad, DatasetWriter(output, scratch, config.eval_fraction, general) as dataset:
            ingested = ingest(config, sources_to_prepare(config), chunker, screener, dataset, bad, notes, template)
            dataset.check_splits(bool(config.eval_source), config.eval_fraction)
        duplicates, prompt_overlaps = dataset.duplicates(), dataset.prompt_overlaps()  # before rows are dropped again
        similarity = compare_rows(config, dataset.paths, dataset.words(), scratch)
    description = _describe(DatasetDescriber(tokenizer, max_length), dataset.paths, similarity)
    if fault := description.content.fault:
        raise DatasetError(f"{fault}: use a base with another chat template, or mend the one that it has")
    report = _report(
        _Results(config, ingested, bad, notes, screener, dataset, duplicates, prompt_overlaps, similarity, description)
    )
    report.save(output)
    (output / PAGE).write_text(render_dataset_page(report), encoding="utf-8")
    progress.headline(report.headline())
    return report


def prepare_evaluation_set(
    config: DataConfig, tokenizer_folder: Path, output: Path, policy: Policy | None = None
) -> RowCounts:
    """Prepare an evaluation set of all rows of `config.source`, for a model that is only evaluated.

    Writes eval.parquet and bad_rows.jsonl into `output`. Rows are read, validated, screened and deduplicated as by
    `prepare`. They are compared with no training rows.

    Args:
        config: where rows come from, and how they are processed.
        tokenizer_folder: the model's tokenizer.
        output: made if it does not exist.
        policy: see `prepare`.

    Raises:
        ConfigurationError, DatasetError, StorageError: see `prepare`.
    """
    output.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(tokenizer_folder)
    chunker = _chunker(config, tokenizer, None)
    screener = RowScreener(config.personal_data, policy)
    with (
        tempfile.TemporaryDirectory(prefix="loraline-data-") as folder,
        BadRowLog(output) as bad,
        DatasetWriter(output, Path(folder), config.eval_fraction, False) as dataset,
    ):
        sources: list[tuple[SourceRequest, RowSet | None]] = [(one, "eval") for one in config.requests()["source"]]
        ingest(config, sources, chunker, screener, dataset, bad, NoteLog(), TemplateCheck(tokenizer))
    dataset.paths["train"].unlink()
    counts = _row_counts(dataset, bad.rows, {"eval": dataset.outcomes["eval"]})
    progress.headline(f"{counts.eval:,} rows to evaluate on")
    return counts


def _chunker(config: DataConfig, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> Chunker:
    """Cuts plain text into chunks that training does not cut again: it adds two tokens, BOS and EOS."""
    limit = min(config.chunk_tokens, max(1, max_length - 2)) if max_length else config.chunk_tokens
    return Chunker(token_counter(tokenizer), limit, min(config.chunk_overlap, limit // 2))


def _describe(
    describer: DatasetDescriber, paths: dict[RowSet, Path], similarity: SimilarityResult
) -> DatasetDescription:
    train, total = similarity.kept["train"], similarity.kept["train"] + similarity.kept["eval"]
    describer.add_file("train", paths["train"], lambda done: progress.advance(done, total, "rows described"))
    describer.add_file("eval", paths["eval"], lambda done: progress.advance(train + done, total, "rows described"))
    return describer.finish()


def _report(results: _Results) -> DatasetReport:
    bad, dataset, description = results.bad, results.dataset, results.description
    bad_rows = sum(one.bad_rows for one in results.ingested if one.row_set != "general")
    return DatasetReport(
        identity=step_identity("prepare_dataset"),
        fingerprint=description.fingerprint,
        sources=_source_reports(results.ingested),
        rows=_row_counts(dataset, bad_rows, results.similarity.kept),
        bad_fraction=bad.rows / (dataset.rows_added + bad.rows),
        bad_kinds=dict(bad.kinds.most_common()),
        bad_rows=bad.first,
        notes=results.notes.report(),
        duplicates=results.duplicates,
        prompt_overlaps=results.prompt_overlaps,
        lengths=description.lengths,
        near_duplicates=results.similarity.near_duplicates,
        contamination=results.similarity.contamination,
        personal_data=results.screener.personal_data(),
        answers=AnswerProblems(
            empty=bad.empty_answers, empty_origins=bad.first_empty_answers, truncation=description.truncation
        ),
        content=description.content,
        policy=results.screener.policy(),
        labels=description.labels,
        general=_general_set(results) if results.config.general_source else None,
        samples=description.samples,
    )


def _source_reports(ingested: list[Ingested]) -> list[SourceReport]:
    """In the order source, eval source, general source."""
    order: tuple[RowSet | None, ...] = (None, "train", "eval", "general")
    return [one.report for one in sorted(ingested, key=lambda one: order.index(one.row_set))]


def _row_counts(dataset: DatasetWriter, bad: int, kept: dict[RowSet, int]) -> RowCounts:
    """What became of the rows. Rows that were written and are not kept are near-duplicates."""
    counts = dataset.outcomes
    train, held_out = kept.get("train", 0), kept.get("eval", 0)
    return RowCounts(
        read=counts.total() + bad,
        train=train,
        eval=held_out,
        bad=bad,
        duplicates=counts["duplicate"],
        prompt_overlap=counts["prompt_overlap"],
        near_duplicates=counts["train"] + counts["eval"] - train - held_out,
        personal_data=counts["personal_data"],
        policy=counts["policy"],
        left_out=counts["left_out"],
    )


def _general_set(results: _Results) -> GeneralSet:
    counts, kept = results.dataset.general_outcomes, results.similarity.kept["general"]
    bad = sum(one.bad_rows for one in results.ingested if one.row_set == "general")
    return GeneralSet(
        source=results.config.names("general_source"),
        fingerprint=fingerprint_of(results.dataset.paths["general"], "general"),
        read=counts.total() + bad,
        rows=kept,
        bad=bad,
        duplicates=counts["duplicate"],
        screened=counts["personal_data"] + counts["policy"],
        left_out=counts["left_out"],
        train_overlap=counts["prompt_overlap"] + counts["general"] - kept,
    )
