"""What a model does with the output of its output head: scale it (Cohere, Granite), or cap it softly (Gemma)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
_FACTORS = ("logit_scale", "logits_scaling", "lm_head_multiplier")
"""Fields of configurations. Granite divides by logits_scaling, HyperCLOVA X multiplies with it."""
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Of the largest logit: a model computes with more or fewer roundings than `apply`."""


@dataclass(frozen=True)
class LogitTransform:
    """Logits are `factor * z`, or `cap * tanh(factor * z / cap)` (arXiv 2408.00118), of the head's output z."""

    factor: float = 1.0
    cap: float | None = None

    def apply(self, outputs: Tensor) -> Tensor:
        """Logits of the head's outputs, in the same dtype; changes `outputs` in place where it is not the identity."""
        if self.factor != 1.0:
            outputs.mul_(self.factor)
        return outputs if self.cap is None else outputs.div_(self.cap).tanh_().mul_(self.cap)

    def backward(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """Turn the gradient by the logits into that by the head's outputs; in place, and so are the logits changed."""
        if self.cap is not None:
            gradient.mul_(logits.div_(self.cap).square_().neg_().add_(1.0))
        return gradient if self.factor == 1.0 else gradient.mul_(self.factor)


IDENTITY = LogitTransform()


def candidates(config: Any) -> list[LogitTransform]:
    """The transforms that a model's configuration may mean; the identity alone where it has no such field."""
    text = config.get_text_config()
    caps, factors = ([float(getattr(text, name, None) or 0) for name in names] for names in (_CAPS, _FACTORS))
    return [
        *(LogitTransform(cap=cap) for cap in caps if cap),
        *(LogitTransform(factor) for value in factors if value for factor in (value, 1 / value)),
        IDENTITY,
    ]


def find_transform(config: Any, outputs: Tensor, logits: Tensor) -> LogitTransform | None:
    """The transform that turns the head's outputs into a model's logits; None where none of the candidates does."""
    limit = _TOLERANCE[outputs.dtype] * float(logits.abs().max())
    for transform in candidates(config):
        difference = transform.apply(outputs.float().clone()) - logits.float()
        if float(difference.abs().max()) <= (0.0 if transform == IDENTITY else limit):
            return transform
    return None
