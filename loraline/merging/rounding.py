"""Stochastic rounding of merged weights to 16 bit: what an adapter adds is kept on average.

Most of an adapter's changes are smaller than half the spacing of 16-bit numbers around the weight that they change.
Rounding to nearest throws those away, all in the same direction: back to the base. Rounding up as often as the rest is
large keeps them in the mean over a weight's row, at the price of noise without direction. A weight that does not change
stays as it is, bit for bit. docs/merging.md has the figures, with a real model.

The random bits are PCG64's own, which NumPy promises to be the same everywhere, seeded by the weight's name.

- Gupta, Agrawal, Gopalakrishnan, Narayanan, "Deep learning with limited numerical precision", ICML 2015.
"""

import hashlib

import numpy as np
import torch

_DROPPED_BITS = {torch.bfloat16: 16, torch.float16: 13}
"""Bits of a float32's mantissa that the dtype does not have."""


class StochasticRounding:
    """Rounds the values of one weight, block after block."""

    def __init__(self, name: str) -> None:
        """Seed the random bits.

        Args:
            name: of the weight.
        """
        self._bits = np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16]))

    def round(self, values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Round float32 values to a dtype; values of float32 stay as they are."""
        dropped = _DROPPED_BITS.get(dtype)
        if dropped is None:
            return values.to(dtype)
        raw = self._bits.random_raw(-(-values.numel() // 4)).astype("<u8").view("<u2")[: values.numel()]
        noise = torch.from_numpy(raw.astype(np.int32) >> (16 - dropped)).view(values.shape)
        # Adding to the bits below the cut carries into the last bit that stays as often as they are large.
        rounded = (values.contiguous().view(torch.int32) + noise) & -(1 << dropped)
        return rounded.view(torch.float32).to(dtype)
