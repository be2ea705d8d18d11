"""Turns a source of rows into train and eval sets that can be trusted."""

import tempfile
from pathlib import Path

from loraline import progress
from loraline.artifacts.dataset import (
    Answers,
    DatasetReport,
    Duplicate,
    General,
    RowCounts,
    RowProblem,
    SourceReport,
)
from loraline.artifacts.dataset_files import PAGE, RowSet
from loraline.data.chunk import Chunker
from loraline.data.collect import collect
from loraline.data.config import DataConfig
from loraline.data.description.describe import Description, fingerprint_of
from loraline.data.description.lengths import token_counter
from loraline.data.reading.bad_rows import BadRows
from loraline.data.screen import Screen
from loraline.data.similarity.compare import Compared, compare
from loraline.data.writer import DatasetWriter
from loraline.models.folder import load_tokenizer
from loraline.report.dataset_page import render_dataset_page
from loraline.safety import Policy


def prepare(
    config: DataConfig,
    tokenizer_folder: Path,
    output: Path,
    max_length: int | None = None,
    policy: Policy | None = None,
) -> DatasetReport:
    """Read, check, clean, screen, deduplicate, split, compare and describe the rows of a source.

    Writes train.parquet, eval.parquet, report.json, report.html and bad_rows.jsonl into `output`, and general.parquet
    where there is a general source. Rows stream through three times: they are read and written, compared with one
    another by the words that were taken down, and described. Memory holds some 120 bytes a row, for the checks of
    duplicates and leakage, and a few batches; the words lie in a temporary folder, 4 bytes each.

    Args:
        config: where rows come from and what is done about them.
        tokenizer_folder: the base model's tokenizer.
        output: made where it does not exist.
        max_length: tokens of a row that training reads; None: what it cuts off is not measured.
        policy: the safety policy that rows are held to, and whose system prompt conversations begin with.

    Raises:
        DatasetError: a source cannot be read, more rows are bad than allowed, or a side is left empty.
        StorageError: the object store is away or refuses.
    """
    output.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(tokenizer_folder)
    chunker = Chunker(token_counter(tokenizer), config.chunk_tokens, config.chunk_overlap)
    screen = Screen(config.personal_data, policy)
    with tempfile.TemporaryDirectory(prefix="loraline-data-") as folder:
        scratch = Path(folder)
        general = bool(config.general_source)
        with BadRows(output) as bad, DatasetWriter(output, scratch, config.eval_fraction, general) as dataset:
            sources = collect(config, chunker, screen, dataset, bad)
        repeats = dataset.duplicates(), dataset.overlap()  # before any row is taken out again
        compared = compare(config, dataset.paths, dataset.words(), scratch)
    described = _describe(Description(tokenizer, max_length), dataset.paths, compared)
    report = _report(config, sources, screen, bad, dataset, repeats, compared, described)
    report.save(output)
    (output / PAGE).write_text(render_dataset_page(report), encoding="utf-8")
    progress.headline(report.headline())
    return report


def prepare_evaluation_set(
    config: DataConfig, tokenizer_folder: Path, output: Path, policy: Policy | None = None
) -> RowCounts:
    """Make an evaluation set of all rows of `config.source`, for a model that is only evaluated.

    Writes eval.parquet and bad_rows.jsonl into `output`. Rows are read, checked, cleaned, screened and deduplicated as
    by `prepare`; nothing is compared with training rows, because there are none.

    Args:
        config: where rows come from and what is done about them.
        tokenizer_folder: the model's tokenizer.
        output: made where it does not exist.
        policy: as of `prepare`.

    Raises:
        DatasetError: the source cannot be read, or more rows are bad than allowed.
        StorageError: the object store is away or refuses.
    """
    output.mkdir(parents=True, exist_ok=True)
    chunker = Chunker(token_counter(load_tokenizer(tokenizer_folder)), config.chunk_tokens, config.chunk_overlap)
    with (
        tempfile.TemporaryDirectory(prefix="loraline-data-") as folder,
        BadRows(output) as bad,
        DatasetWriter(output, Path(folder), config.eval_fraction, False) as dataset,
    ):
        collect(config, chunker, Screen(config.personal_data, policy), dataset, bad, evaluation_only=True)
    dataset.paths["train"].unlink()
    progress.headline(f"{dataset.counts.eval:,} rows to evaluate on")
    return dataset.counts


def _report(
    config: DataConfig,
    sources: list[SourceReport],
    screen: Screen,
    bad: BadRows,
    dataset: DatasetWriter,
    repeats: tuple[list[Duplicate], list[Duplicate]],
    compared: Compared,
    described: Description,
) -> DatasetReport:
    counts, general = dataset.counts, dataset.general
    lengths = described.lengths.report()
    return DatasetReport(
        fingerprint=described.fingerprint.hexadecimal(),
        sources=sources,
        rows=_row_counts(counts, compared, bad.rows - general.bad),
        bad_fraction=bad.rows / (counts.read + general.read - general.bad + bad.rows),
        bad_kinds=dict(bad.kinds.most_common()),
        bad_rows=[RowProblem.model_validate(problem, from_attributes=True) for problem in bad.first],
        duplicates=repeats[0],
        overlap=repeats[1],
        lengths=lengths,
        near_duplicates=compared.near_duplicates,
        contamination=compared.contamination,
        personal_data=screen.personal_data(),
        answers=Answers(
            empty=bad.empty_answers, empty_origins=bad.first_empty_answers, truncated=described.truncation()
        ),
        policy=screen.policy(),
        labels=described.labels(),
        general=_general(config, dataset, compared) if config.general_source else None,
        samples=described.samples(),
    )


def _describe(description: Description, paths: dict[RowSet, Path], compared: Compared) -> Description:
    total = compared.kept["train"] + compared.kept["eval"]
    description.look("train", paths["train"], lambda done: progress.advance(done, total, "rows described"))
    before = compared.kept["train"]
    description.look("eval", paths["eval"], lambda done: progress.advance(before + done, total, "rows described"))
    return description


def _row_counts(counts: RowCounts, compared: Compared, bad: int) -> RowCounts:
    """What became of the rows, those that were taken out again included."""
    kept = {"train": compared.kept["train"], "eval": compared.kept["eval"]}
    dropped = counts.train + counts.eval - sum(kept.values())
    return counts.model_copy(update={**kept, "read": counts.read + bad, "bad": bad, "near_duplicates": dropped})


def _general(config: DataConfig, dataset: DatasetWriter, compared: Compared) -> General:
    counts = dataset.general
    written = counts.read - counts.bad - counts.duplicates - counts.personal_data - counts.policy - counts.overlap
    return General(
        source=config.general_source,
        fingerprint=fingerprint_of(dataset.paths["general"], "general"),
        read=counts.read,
        rows=compared.kept["general"],
        bad=counts.bad,
        duplicates=counts.duplicates,
        screened=counts.personal_data + counts.policy,
        trained_on=counts.overlap + written - compared.kept["general"],
    )
