"""Which rows are trained on, which evaluated on, and which dropped: by content, so that order does not matter."""

import hashlib
from array import array
from typing import Literal

from loraline.data.rows import Row

Fate = Literal["train", "eval", "duplicate", "overlap"]

_FIRST_SLOTS = 1 << 10
_MODULUS = 1 << 256


class HashIndex:
    """A set of 64-bit hashes in 12 to 24 bytes each: a table with open addressing, 0 for an empty slot."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _FIRST_SLOTS))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        return self._slots[self._slot(key or 1)] != 0

    def add(self, key: int) -> bool:
        """Add a hash; False where it was there already."""
        slot = self._slot(key or 1)
        if self._slots[slot]:
            return False
        self._slots[slot] = key or 1
        self._count += 1
        if 3 * self._count > 2 * len(self._slots):
            self._grow()
        return True

    def _slot(self, key: int) -> int:
        slots, mask = self._slots, len(self._slots) - 1
        slot = key & mask
        while slots[slot] and slots[slot] != key:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        old = self._slots
        self._slots = array("Q", bytes(16 * len(old)))
        for key in old:
            if key:
                self._slots[self._slot(key)] = key


class Fingerprint:
    """A hash of the rows as a multiset: their order and the files they came from do not matter."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, side: str, row_id: str) -> None:
        """Take in one row that lies in `side`, train or eval."""
        digest = hashlib.sha256(f"{side}:{row_id}".encode()).digest()
        self._sum = (self._sum + int.from_bytes(digest)) % _MODULUS

    def hexadecimal(self) -> str:
        """The fingerprint, 64 hexadecimal digits."""
        return f"{self._sum:064x}"


class Splitter:
    """Decides each row's fate."""

    def __init__(self, eval_fraction: float) -> None:
        self._eval_fraction = eval_fraction
        self._seen = HashIndex()
        self._prompts = {"train": HashIndex(), "eval": HashIndex()}

    def is_trained_on(self, row: Row) -> bool:
        """Whether train holds a row's prompt."""
        return prompt_key(row) in self._prompts["train"]

    def decide(self, row: Row, group: str, side: Literal["train", "eval"] | None) -> Fate:
        """Say where a row goes; `side` where its source is for one side only, else the hash decides.

        A row is an overlap where the other side holds its prompt already. With a hash split that cannot
        be, short of a mistake of ours; it is checked all the same.
        """
        prompt = prompt_key(row)
        side = side or self._side(_hash(group) if group else prompt)
        if prompt in self._prompts["eval" if side == "train" else "train"]:
            return "overlap"
        if not self._seen.add(int(row.id[:16], 16)):
            return "duplicate"
        self._prompts[side].add(prompt)
        return side

    def _side(self, key: int) -> Literal["train", "eval"]:
        return "eval" if key < self._eval_fraction * 2**64 else "train"


def prompt_of(row: Row) -> str:
    """What a row asks: all before its last assistant turn (a plain text: all), without case and spacing."""
    if row.messages is None:
        asked = row.text or ""
    else:
        asked = "\n".join(f"{turn['role']}: {turn['content']}" for turn in row.messages[:-1])
    return " ".join(asked.casefold().split())


def prompt_key(row: Row) -> int:
    """A hash of what a row asks, 64 bits."""
    return _hash(prompt_of(row))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
