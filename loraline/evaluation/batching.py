"""Group token sequences into batches, and pad a batch."""

from collections.abc import Iterator

import torch


def make_batches(lengths: list[int], max_rows: int, max_tokens: int) -> Iterator[list[int]]:
    """Group sequences of similar length, so that there is little padding; yields their indices.

    The batches depend on the lengths alone, so that every run computes the same. The longest come first: what does not
    fit in memory fails at once. A sequence longer than `max_tokens` has a batch of its own.

    Args:
        lengths: tokens of each sequence.
        max_rows: sequences in a batch.
        max_tokens: tokens in a batch, padding included.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        rows = max(1, min(max_rows, max_tokens // max(1, lengths[order[0]])))
        yield order[:rows]
        order = order[rows:]


def pad(sequences: list[list[int]], left: bool, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad sequences on one side to the longest; returns token ids and attention mask, both ``(batch, longest)``.

    The padding token is 0, which the mask hides: some tokenizers have no padding token.
    """
    width = max(map(len, sequences))
    ids, mask = [], []
    for sequence in sequences:
        padding = [0] * (width - len(sequence))
        ones = [1] * len(sequence)
        ids.append(padding + sequence if left else sequence + padding)
        mask.append(padding + ones if left else ones + padding)
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
