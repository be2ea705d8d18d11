"""The loss: cross-entropy at the positions that carry loss, and nowhere else.

The head's product with the vocabulary is the largest matrix of a small model. Where the head is a plain
linear layer, logits are made for a chunk of positions at a time and turned into the gradient at once, in the forward
pass: two products for each chunk, and never all logits (as Cut Cross-Entropy, arXiv 2411.09009, and Liger do).

Shapes: T tokens, M positions with loss, V vocabulary, D hidden size.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from loraline.training.collator import Batch

_CHUNK = 256  # positions whose logits exist at one time; the fastest of 32 to 512 with 32k words on a CPU


class LossHead:
    """Computes a batch's loss, with the model's output head taken out of the model where that is possible."""

    def __init__(self, model: PreTrainedModel, batch: Batch) -> None:
        """Look at the model, with a batch to try it on."""
        self._model = model
        self._head = _plain_head(model, batch)
        if self._head is not None:
            self._head.forward = _same  # type: ignore[method-assign, assignment]

    @property
    def chunked(self) -> bool:
        """Whether logits are made in chunks, outside the model."""
        return self._head is not None

    def __call__(self, batch: Batch) -> Tensor:
        """Sum of the loss over a batch's labelled positions, in nats; a scalar in fp32."""
        states = self._model(**batch.inputs, use_cache=False).logits.flatten(0, 1)
        if self._head is None:
            return functional.cross_entropy(states[batch.positions].float(), batch.targets, reduction="sum")
        return _ChunkedLoss.apply(states, batch.positions, batch.targets, self._head.weight, self._head.bias)

    @torch.no_grad()
    def each(self, batch: Batch) -> Tensor:
        """The loss at each of a batch's labelled positions, in nats; shape (M,), without a gradient."""
        states = self._model(**batch.inputs, use_cache=False).logits.flatten(0, 1).index_select(0, batch.positions)
        losses = []
        for some, targets in zip(states.split(_CHUNK), batch.targets.split(_CHUNK), strict=True):
            logits = some if self._head is None else functional.linear(some, self._head.weight, self._head.bias)
            losses.append(functional.cross_entropy(logits.float(), targets, reduction="none"))
        return torch.cat(losses)


def _same(states: Tensor) -> Tensor:
    return states


def _plain_head(model: PreTrainedModel, batch: Batch) -> nn.Linear | None:
    """The model's output head, if it is a frozen linear layer whose output the model returns as it is."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or any(p.requires_grad for p in head.parameters()):
        return None
    made: list[Tensor] = []
    handle = head.register_forward_hook(lambda module, inputs, output: made.append(output))
    try:
        with torch.no_grad():
            logits = model(**batch.inputs, use_cache=False).logits
    finally:
        handle.remove()
    return head if len(made) == 1 and torch.equal(made[0].float(), logits.float()) else None


class _ChunkedLoss(torch.autograd.Function):
    """Sum of cross-entropy of `states[positions] @ weight.T + bias`, its gradient made along with it."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, positions: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        chosen = states.index_select(0, positions)
        gradient = torch.empty_like(chosen) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        for start in range(0, len(targets), _CHUNK):
            part = slice(start, start + _CHUNK)
            total += _chunk(chosen[part], targets[part], weight, bias, None if gradient is None else gradient[part])
        ctx.save_for_backward(positions, gradient)
        ctx.shape = states.shape
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        positions, gradient = ctx.saved_tensors
        full = gradient.new_zeros(ctx.shape)
        # The factor is 1 / (labelled tokens of the step); in place, because this runs once.
        full.index_copy_(0, positions, gradient.mul_(gradients[0]))
        return full, None, None, None, None


def _chunk(states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, gradient: Tensor | None) -> Tensor:
    """Loss of one chunk; its gradient by the states is written into `gradient` where that is given."""
    logits = functional.linear(states, weight, bias)
    if gradient is None:
        return functional.cross_entropy(logits.float(), targets, reduction="sum")
    # One pass in bfloat16 instead of several in fp32. What rounding takes from a probability near one is found
    # again in the sum of all others. A loss above 87 nats a token counts as 87; its gradient is right all the same.
    probabilities = torch.softmax(logits, -1, dtype=torch.float32 if logits.dtype == torch.float16 else None)
    at_target = targets.unsqueeze(1)
    target = probabilities.gather(1, at_target).float()
    probabilities.scatter_(1, at_target, 0.0)
    others = probabilities.sum(-1, keepdim=True, dtype=torch.float32)
    probabilities.scatter_(1, at_target, -others.to(probabilities.dtype))
    torch.mm(probabilities.to(weight.dtype), weight, out=gradient)
    unlikely = -target.clamp_min(torch.finfo(torch.float32).tiny).log()
    return torch.where(target > 0.5, -torch.log1p(-others.clamp_max(0.75)), unlikely).sum()
