"""Split rows into train and eval by a hash of their prompt, so that neither their order nor other rows matter."""

import hashlib
from typing import Literal

from loraline.artifacts.dataset_files import Split
from loraline.data.messages import last_answer, message_text, tools_text
from loraline.data.rows import Row
from loraline.data.similarity.hash_set import HashSet

SplitDecision = Literal["train", "eval", "duplicate", "prompt_overlap"]


class Splitter:
    """Assigns each row to a split, or drops it as a duplicate or because the other split has its prompt."""

    def __init__(self, eval_fraction: float) -> None:
        self._eval_fraction = eval_fraction
        self._row_ids = HashSet()
        self._prompts = {"train": HashSet(), "eval": HashSet()}

    def is_trained_on(self, row: Row) -> bool:
        """Whether train has a row with this row's prompt."""
        return prompt_hash(row) in self._prompts["train"]

    def decide(self, row: Row, group: str, split: Split | None) -> SplitDecision:
        """Decide what becomes of a row.

        Args:
            row: the row.
            group: rows of one group go to the same split; empty: the hash of the prompt decides.
            split: the split that all rows of its source go to; None: the hash decides.
        """
        prompt = prompt_hash(row)
        split = split or self._split_of(_hash(group) if group else prompt)
        # With a split by hash only rows of different groups can share a prompt across splits.
        if prompt in self._prompts["eval" if split == "train" else "train"]:
            return "prompt_overlap"
        if not self._row_ids.add(row.id_hash):
            return "duplicate"
        self._prompts[split].add(prompt)
        return split

    def _split_of(self, key: int) -> Split:
        return "eval" if key < self._eval_fraction * 2**64 else "train"


def prompt_of(row: Row) -> str:
    """Tools and all turns before a row's last answer, or all of a plain text; in lower case, with single spaces."""
    if row.messages is None:
        prompt = row.text or ""
    else:
        turns = row.messages[: last_answer(row.messages)]
        prompt = tools_text(row.tools) + "\n".join(f"{turn['role']}: {message_text(turn)}" for turn in turns)
    return " ".join(prompt.casefold().split())


def prompt_hash(row: Row) -> int:
    """A 64-bit hash of a row's prompt."""
    return _hash(prompt_of(row))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
