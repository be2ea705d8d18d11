"""The causal language modeling loss: cross-entropy at the label positions, and nowhere else.

The product of hidden states and vocabulary is the largest matrix of a small model. Where the output head is a plain
linear layer, logits are computed for a chunk of positions at a time and turned into the gradient at once, in the
forward pass: two matrix products for each chunk, and never all logits (as in Cut Cross-Entropy, arXiv 2411.09009,
and Liger).

Shapes: T tokens, M labels, V vocabulary, D hidden size.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from loraline.training.collator import Batch
from loraline.training.logit_transform import LogitTransform, find_transform
from loraline.training.memory_facts import LOGITS_CHUNK


class CausalLMLoss:
    """Computes the loss of a batch: in chunks, past the output head, where that can be done."""

    def __init__(self, model: PreTrainedModel, batch: Batch) -> None:
        """Find out with one batch whether the model's loss can be computed in chunks."""
        self._model = model
        self._head = _chunkable_head(model, batch)

    @property
    def chunked(self) -> bool:
        """Whether logits are computed in chunks, outside the model."""
        return self._head is not None

    def __call__(self, batch: Batch) -> Tensor:
        """Return the sum of the loss over a batch's labels, in nats; a scalar in float32."""
        states = self._run(batch)
        if self._head is None:
            return functional.cross_entropy(states[batch.label_positions].float(), batch.labels, reduction="sum")
        head = self._head
        return _ChunkedLoss.apply(states, batch.label_positions, batch.labels, head.weight, head.bias, head.transform)

    @torch.no_grad()
    def per_token(self, batch: Batch) -> Tensor:
        """Return the loss at each label of a batch, in nats; shape (M,), without a gradient."""
        states = self._run(batch).index_select(0, batch.label_positions)
        losses = []
        for chunk, labels in zip(states.split(LOGITS_CHUNK), batch.labels.split(LOGITS_CHUNK), strict=True):
            logits = chunk if self._head is None else self._head.logits(chunk)
            losses.append(functional.cross_entropy(logits.float(), labels, reduction="none"))
        return torch.cat(losses)

    def _run(self, batch: Batch) -> Tensor:
        """Run the model; what its output head is given, (T, D), or its logits where these cannot be chunked, (T, V)."""
        logits = self._model(**batch.inputs, use_cache=False).logits
        return (logits if self._head is None else self._head.take_states()).flatten(0, 1)


class _CapturedHead:
    """The output head of a model, which from now on keeps what it is given and computes nothing."""

    def __init__(self, head: nn.Linear, transform: LogitTransform) -> None:
        self.weight, self.bias, self.transform = head.weight, head.bias, transform
        self._states: Tensor | None = None
        head.forward = self._capture  # type: ignore[method-assign, assignment]

    def _capture(self, states: Tensor) -> Tensor:
        self._states = states
        return states[..., :1]

    def take_states(self) -> Tensor:
        """What the head was given in the forward pass before."""
        states, self._states = self._states, None
        assert states is not None, "the model ran without its output head"
        return states

    def logits(self, states: Tensor) -> Tensor:
        """The model's logits for these inputs of the head."""
        return self.transform.apply(functional.linear(states, self.weight, self.bias))


def _chunkable_head(model: PreTrainedModel, batch: Batch) -> _CapturedHead | None:
    """Return the output head, if it is a frozen linear layer whose output the model returns, transformed or not."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or any(p.requires_grad for p in head.parameters()):
        return None
    outputs: list[Tensor] = []
    # A copy: some models cap or scale in place.
    handle = head.register_forward_hook(lambda module, inputs, output: outputs.append(output.clone()))
    try:
        with torch.no_grad():
            logits = model(**batch.inputs, use_cache=False).logits
    finally:
        handle.remove()
    transform = find_transform(model.config, outputs[0], logits) if len(outputs) == 1 else None
    return _CapturedHead(head, transform) if transform else None


class _ChunkedLoss(torch.autograd.Function):
    """Sum of the cross-entropy of `transform(states[positions] @ weight.T + bias)`, with the gradient computed too."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        positions: Tensor,
        labels: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        transform: LogitTransform,
    ) -> Tensor:
        selected = states.index_select(0, positions)
        gradient = torch.empty_like(selected) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        for start in range(0, len(labels), LOGITS_CHUNK):
            part = slice(start, start + LOGITS_CHUNK)
            logits = transform.apply(functional.linear(selected[part], weight, bias))
            if gradient is None:
                total += functional.cross_entropy(logits.float(), labels[part], reduction="sum")
            else:
                total += _chunk_loss(logits, labels[part], weight, transform, gradient[part])
        ctx.save_for_backward(positions, gradient)
        ctx.shape = states.shape
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        positions, gradient = ctx.saved_tensors
        full = gradient.new_zeros(ctx.shape)
        # The factor is 1 / (labels of the optimizer step); in place, because this runs once.
        full.index_copy_(0, positions, gradient.mul_(gradients[0]))
        return full, None, None, None, None, None


def _chunk_loss(logits: Tensor, labels: Tensor, weight: Tensor, transform: LogitTransform, gradient: Tensor) -> Tensor:
    """Return the loss of one chunk; the gradient by the states is written into `gradient`."""
    # One pass in bfloat16 instead of several in float32. What rounding loses of a probability near one is recovered
    # from the sum of all others. A loss above 87 nats per token counts as 87; its gradient is right all the same.
    probabilities = torch.softmax(logits, -1, dtype=torch.float32 if logits.dtype == torch.float16 else None)
    at_label = labels.unsqueeze(1)
    label_probability = probabilities.gather(1, at_label).float()
    probabilities.scatter_(1, at_label, 0.0)
    others = probabilities.sum(-1, keepdim=True, dtype=torch.float32)
    probabilities.scatter_(1, at_label, -others.to(probabilities.dtype))
    torch.mm(transform.backward(probabilities, logits).to(weight.dtype), weight, out=gradient)
    unlikely = -label_probability.clamp_min(torch.finfo(torch.float32).tiny).log()
    return torch.where(label_probability > 0.5, -torch.log1p(-others.clamp_max(0.75)), unlikely).sum()
