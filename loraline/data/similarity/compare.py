"""Compare the written rows with one another, and drop near-duplicates from their files."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loraline import progress
from loraline.artifacts.dataset import ContaminatedRow, Contamination, NearDuplicate, NearDuplicates
from loraline.artifacts.dataset_files import RowSet
from loraline.data.config import DataConfig
from loraline.data.description.excerpts import MAX_EXAMPLES, excerpt_of
from loraline.data.rows import filter_rows, read_ids_at, read_rows_at
from loraline.data.similarity.contamination import EVAL_WORDS_PER_PASS, NGRAM_WORDS, Copy, find_copies
from loraline.data.similarity.near_duplicates import NearDuplicatePair, find_near_duplicates
from loraline.data.similarity.word_hashes import WordHashes
from loraline.errors import DatasetError


@dataclass(frozen=True)
class SimilarityResult:
    """The similar rows that were found."""

    near_duplicates: NearDuplicates
    contamination: Contamination
    kept: dict[RowSet, int]
    """Number of rows left in each set."""


class _RowProgress:
    """Reports how many rows have been compared."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def advance(self, rows: int) -> None:
        self._done += rows
        progress.advance(min(self._done, self._total), self._total, "rows compared")


def compare_rows(
    config: DataConfig, paths: dict[RowSet, Path], words: dict[RowSet, WordHashes], scratch: Path
) -> SimilarityResult:
    """Find near-duplicates and contamination, and rewrite the files of which rows are dropped.

    Args:
        config: says whether near-duplicates are dropped, and from which similarity rows are near-duplicates.
        paths: the parquet file of each set.
        words: the word hashes of its rows.
        scratch: a folder for what does not fit in memory.

    Raises:
        DatasetError: no row of a set is left.
    """
    train, held_out, general = words["train"], words["eval"], words.get("general")
    passes = math.ceil(int(held_out.lengths.sum()) / EVAL_WORDS_PER_PASS) or 1
    general_rows = len(train) + len(general) if general else 0
    watch = _RowProgress(len(held_out) + len(train) * (1 + passes) + general_rows)
    kept: dict[RowSet, NDArray[np.bool_]] = {row_set: np.ones(len(one), bool) for row_set, one in words.items()}

    pairs = find_near_duplicates([held_out, train], config.near_duplicate_similarity, scratch, watch.advance)
    near_duplicates = _near_duplicates(config, pairs, len(held_out), paths)
    if config.near_duplicates == "drop":
        rows = np.array([pair.row for pair in pairs], np.int64)
        kept["eval"][rows[rows < len(held_out)]] = False
        kept["train"][rows[rows >= len(held_out)] - len(held_out)] = False
    copies = find_copies(held_out, train, kept["train"], watch.advance)
    copies = [copy for copy in copies if kept["eval"][copy.row]]
    contamination = _contamination(copies, int(kept["eval"].sum()), paths)
    if general:
        pairs = find_near_duplicates([train, general], config.near_duplicate_similarity, scratch, watch.advance)
        trained_on = [pair.row - len(train) for pair in pairs if pair.row >= len(train) > pair.other]
        kept["general"][np.array(trained_on, np.int64)] = False
    for row_set, flags in kept.items():
        _drop_rows(row_set, flags, paths[row_set])
    left = {row_set: int(flags.sum()) for row_set, flags in kept.items()}
    return SimilarityResult(near_duplicates, contamination, left)


def _drop_rows(row_set: RowSet, kept: NDArray[np.bool_], path: Path) -> None:
    if row_set == "general" and not kept.any():
        raise DatasetError(
            "no row of data.general_source is left: all are in the rows to train on, or were screened out; name other "
            "rows to measure forgetting on"
        )
    if not kept.any():
        raise DatasetError(
            "every row to train on is a near-duplicate of a row to evaluate on; name other rows, or raise "
            "data.near_duplicate_similarity"
        )
    if not kept.all():
        filter_rows(path, kept)


def _near_duplicates(
    config: DataConfig, pairs: list[NearDuplicatePair], eval_rows: int, paths: dict[RowSet, Path]
) -> NearDuplicates:
    """Count the pairs, and show the most similar. Rows below `eval_rows` are eval rows, the others train rows."""
    within_eval = sum(pair.row < eval_rows for pair in pairs)
    across = sum(pair.other < eval_rows <= pair.row for pair in pairs)
    shown = sorted(pairs, key=lambda pair: (-pair.similarity, pair.row))[:MAX_EXAMPLES]
    numbers = [number for pair in shown for number in (pair.row, pair.other)]
    held_out = read_rows_at(paths["eval"], [number for number in numbers if number < eval_rows])
    train = read_rows_at(paths["train"], [number - eval_rows for number in numbers if number >= eval_rows])
    rows = held_out | {number + eval_rows: row for number, row in train.items()}
    return NearDuplicates(
        similarity=config.near_duplicate_similarity,
        action=config.near_duplicates,
        within_train=len(pairs) - within_eval - across,
        within_eval=within_eval,
        across=across,
        dropped=len(pairs) if config.near_duplicates == "drop" else 0,
        examples=[
            NearDuplicate(
                origin=rows[pair.row].origin,
                other_origin=rows[pair.other].origin,
                similarity=pair.similarity,
                excerpt=excerpt_of(rows[pair.row]),
            )
            for pair in shown
        ],
    )


def _contamination(copies: list[Copy], eval_rows: int, paths: dict[RowSet, Path]) -> Contamination:
    shown = sorted(copies, key=lambda copy: (-copy.word_overlap, copy.row))[:MAX_EXAMPLES]
    held_out = read_rows_at(paths["eval"], [copy.row for copy in shown])
    train = read_rows_at(paths["train"], [copy.train_row for copy in shown])
    return Contamination(
        n=NGRAM_WORDS,
        eval_examples=eval_rows,
        contaminated=len(copies),
        fraction=len(copies) / eval_rows,
        ids=read_ids_at(paths["eval"], [copy.row for copy in copies]),
        examples=[
            ContaminatedRow(
                id=held_out[copy.row].id,
                origin=held_out[copy.row].origin,
                train_origin=train[copy.train_row].origin,
                word_overlap=copy.word_overlap,
                excerpt=excerpt_of(held_out[copy.row]),
            )
            for copy in shown
        ],
    )
