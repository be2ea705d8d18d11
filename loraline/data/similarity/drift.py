"""How far two datasets are from each other, told from profiles of a few kilobytes.

The Jensen-Shannon divergence (Lin 1991, "Divergence measures based on the Shannon entropy") of two distributions is 0
where they are the same and 1, in bits, where they have nothing in common. Two samples of one distribution are never
quite the same: what chance alone accounts for, about (k - 1) (1/n + 1/m) / (8 ln 2) for k values in common and samples
of n and m (Grosse et al. 2002, "Analysis of symbolic sequences using the Jensen-Shannon divergence"), is taken off
twice: the words of a row are not drawn one by one, and two halves of one dataset differ by two to three times as much.
"""

import math
from collections.abc import Sequence
from typing import Any

PARTS = ("prompt_words", "completion_words", "prompt_lengths", "completion_lengths")
"""What a profile holds beside `rows`: histograms of hashed words, and of rows by length."""


def drift(profile: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Compare the profiles of two datasets, as report.json of `prepare_dataset` holds them.

    Returns:
        `score`, from 0 (the same) to 1, which is the largest of `parts`: words and lengths of prompts and of
        completions, each from 0 to 1. A part that either side has nothing of is left out, unless only one has.
    """
    parts = {}
    for name in PARTS:
        both = [list(map(int, one.get(name, []))) for one in (profile, other)]
        if any(map(sum, both)):
            parts[name] = _divergence(*both)
    return {"score": max(parts.values(), default=0.0), "parts": parts}


def _divergence(counts: Sequence[int], others: Sequence[int]) -> float:
    """Jensen-Shannon divergence of two histograms in bits, less what chance accounts for, from 0 to 1."""
    if not sum(counts) or not sum(others) or len(counts) != len(others):
        return 1.0
    first, second = ([count / sum(one) for count in one] for one in (counts, others))
    found = 0.0
    for share, other in zip(first, second, strict=True):
        middle = (share + other) / 2
        found += sum(one * math.log2(one / middle) / 2 for one in (share, other) if one)
    values = sum(1 for pair in zip(counts, others, strict=True) if any(pair))
    chance = (values - 1) * (1 / sum(counts) + 1 / sum(others)) / (8 * math.log(2))
    return round(min(1.0, max(0.0, found - 2 * chance)), 4)
