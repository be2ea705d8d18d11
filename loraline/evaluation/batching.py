"""Which examples are computed together."""

from collections.abc import Iterator

import torch


def batches(lengths: list[int], max_rows: int, max_tokens: int) -> Iterator[list[int]]:
    """Group examples of similar length, so that padding is small; yields their indices, longest batch first.

    The groups depend on the lengths alone, so that every run computes the same. The longest come first:
    what does not fit in memory fails at once. An example longer than `max_tokens` is alone in its batch.

    Args:
        lengths: tokens of each example.
        max_rows: examples in a batch.
        max_tokens: tokens in a batch, padding included.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        rows = max(1, min(max_rows, max_tokens // max(1, lengths[order[0]])))
        yield order[:rows]
        order = order[rows:]


def pad(sequences: list[list[int]], left: bool, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Make one rectangle of token ids and the mask of what is real, both of shape ``(batch, longest)``.

    Padding is token 0, which the mask hides, so that it works for tokenizers that have no padding token.
    """
    width = max(map(len, sequences))
    ids, mask = [], []
    for sequence in sequences:
        padding = [0] * (width - len(sequence))
        real = [1] * len(sequence)
        ids.append(padding + sequence if left else sequence + padding)
        mask.append(padding + real if left else real + padding)
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
