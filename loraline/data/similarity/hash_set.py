"""A compact set of 64-bit hashes."""

from array import array

_INITIAL_SLOTS = 1 << 10


class HashSet:
    """A set of 64-bit hashes that takes 12 to 24 bytes each: an open-addressing table in which 0 is an empty slot.

    The hash 0 is stored as 1.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _INITIAL_SLOTS))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        return self._slots[self._slot(key or 1)] != 0

    def add(self, key: int) -> bool:
        """Add a hash; return False if it was there already."""
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
