"""Compares the rows that were written with one another, and takes those out again that are to be dropped."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loraline import progress
from loraline.artifacts.dataset import ContaminatedRow, Contamination, NearDuplicate, NearDuplicates
from loraline.artifacts.dataset_files import RowSet
from loraline.data.config import DataConfig
from loraline.data.description.excerpts import EXAMPLES, excerpt_of
from loraline.data.similarity.contamination import EVAL_BLOCK, RUN, Copy, find_copies
from loraline.data.similarity.near_duplicates import Pair, find_near_duplicates
from loraline.data.similarity.ngrams import Words
from loraline.data.stored_rows import keep_rows, pick_rows, row_ids
from loraline.errors import DatasetError

Kept = dict[RowSet, NDArray[np.bool_]]


@dataclass(frozen=True)
class Compared:
    """What comparing the rows has found."""

    near_duplicates: NearDuplicates
    contamination: Contamination
    kept: dict[RowSet, int]
    """Rows that are left of each part."""


class _Work:
    """Tells how far the comparison is, in rows."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def advance(self, rows: int) -> None:
        self._done += rows
        progress.advance(min(self._done, self._total), self._total, "rows compared")


def compare(config: DataConfig, paths: dict[RowSet, Path], words: dict[RowSet, Words], scratch: Path) -> Compared:
    """Find near-duplicates and copies, and rewrite the files of which rows are dropped.

    Args:
        config: says what is dropped.
        paths: the parquet file of each part.
        words: the words of its rows.
        scratch: a folder for what does not fit in memory.

    Raises:
        DatasetError: no row is left of a part.
    """
    train, held_out = words["train"], words["eval"]
    scans = math.ceil(int(held_out.lengths.sum()) / EVAL_BLOCK) or 1
    general = words.get("general")
    work = _Work(len(held_out) + len(train) * (1 + scans) + (len(train) + len(general) if general else 0))
    kept: Kept = {part: np.ones(len(one), bool) for part, one in words.items()}

    similarity = config.near_duplicate_similarity
    pairs = find_near_duplicates([held_out, train], similarity, scratch, work.advance)
    near = _near_duplicates(config, pairs, len(held_out), paths)
    if config.near_duplicates == "drop":
        rows = np.array([pair.row for pair in pairs], np.int64)
        kept["eval"][rows[rows < len(held_out)]] = False
        kept["train"][rows[rows >= len(held_out)] - len(held_out)] = False
    copies = find_copies(held_out, train, kept["train"], work.advance)
    copies = [copy for copy in copies if kept["eval"][copy.row]]
    contamination = _contamination(copies, int(kept["eval"].sum()), paths)
    if general:
        repeated = find_near_duplicates([train, general], similarity, scratch, work.advance)
        trained_on = [pair.row - len(train) for pair in repeated if pair.row >= len(train) > pair.other]
        kept["general"][np.array(trained_on, np.int64)] = False
    for part, those in kept.items():
        _rewrite(part, those, paths[part])
    left = {part: int(those.sum()) for part, those in kept.items()}
    return Compared(near, contamination, left)


def _rewrite(part: RowSet, kept: NDArray[np.bool_], path: Path) -> None:
    if part == "general" and not kept.any():
        raise DatasetError(
            "no row of data.general_source is left: all are trained on, or screened out; name other rows to measure "
            "forgetting on"
        )
    if not kept.any():
        raise DatasetError(
            "every row to train on nearly repeats a row to evaluate on; name other rows, or raise "
            "data.near_duplicate_similarity"
        )
    if not kept.all():
        keep_rows(path, kept)


def _near_duplicates(
    config: DataConfig, pairs: list[Pair], first_train: int, paths: dict[RowSet, Path]
) -> NearDuplicates:
    """Count the pairs and show the nearest of them; rows below `first_train` are rows to evaluate on."""
    within_eval = sum(pair.row < first_train for pair in pairs)
    across = sum(pair.other < first_train <= pair.row for pair in pairs)
    shown = sorted(pairs, key=lambda pair: (-pair.similarity, pair.row))[:EXAMPLES]
    numbers = [number for pair in shown for number in (pair.row, pair.other)]
    held_out = pick_rows(paths["eval"], [number for number in numbers if number < first_train])
    train = pick_rows(paths["train"], [number - first_train for number in numbers if number >= first_train])
    rows = held_out | {number + first_train: row for number, row in train.items()}
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
                other=rows[pair.other].origin,
                similarity=pair.similarity,
                excerpt=excerpt_of(rows[pair.row]),
            )
            for pair in shown
        ],
    )


def _contamination(copies: list[Copy], eval_examples: int, paths: dict[RowSet, Path]) -> Contamination:
    shown = sorted(copies, key=lambda copy: (-copy.overlap, copy.row))[:EXAMPLES]
    held_out = pick_rows(paths["eval"], [copy.row for copy in shown])
    train = pick_rows(paths["train"], [copy.train_row for copy in shown])
    return Contamination(
        n=RUN,
        eval_examples=eval_examples,
        contaminated=len(copies),
        fraction=len(copies) / eval_examples,
        ids=row_ids(paths["eval"], [copy.row for copy in copies]),
        examples=[
            ContaminatedRow(
                id=held_out[copy.row].id,
                origin=held_out[copy.row].origin,
                train_origin=train[copy.train_row].origin,
                overlap=copy.overlap,
                excerpt=excerpt_of(held_out[copy.row]),
            )
            for copy in shown
        ],
    )
