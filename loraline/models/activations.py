"""How many bytes a forward pass keeps for the backward pass, found by running it without memory.

The model is built on torch's meta device, where tensors have shapes and no contents, and runs there at its full
batch. What autograd saves is counted, so the figure holds for any architecture and not for those of a formula.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

_ATTENTION = "loraline_counted"


class _CountedAttention(torch.autograd.Function):
    """Attention that saves what a fused kernel saves: its inputs, its output and a log-sum-exp for each query."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, with_scores: bool) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        kept = [query, key, value]
        if (
            with_scores
        ):  # eager attention keeps the probabilities of all pairs in float32, and in 16 bit if it runs in it
            shape = (*query.shape[:-1], key.shape[-2])
            kept += [query.new_empty(shape, dtype=kind) for kind in {torch.float32, query.dtype}]
        else:
            kept += [output, query.new_empty(query.shape[:-1], dtype=torch.float32)]
        ctx.save_for_backward(*kept)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise AssertionError("the trace has no backward pass")


def _attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
    eager = getattr(module, "_loraline_eager", False)
    return _CountedAttention.apply(query, key, value, eager).transpose(1, 2), None


AttentionInterface.register(_ATTENTION, _attention)


def saved_bytes(model: PreTrainedModel, adapted: list[nn.Module], batch_size: int, length: int, eager: bool) -> int:
    """Count the bytes that stay alive from a forward pass to its backward pass, weights and output head aside.

    Args:
        model: on the meta device, in the type it trains in.
        adapted: the linear layers that have an adapter. They keep their input, which a frozen layer does not.
        batch_size: rows.
        length: tokens of a row.
        eager: whether attention keeps the scores of all pairs of tokens.

    Raises:
        RuntimeError, NotImplementedError, TypeError, ValueError: the model's code looks at contents, which the
            meta device has not (experts chosen by a router do).
    """
    body = model.base_model
    own = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}  # the tensors are held, so that no storage's address is used twice

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor
        return tensor

    def keep_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        keep(inputs[0])

    model.set_attn_implementation(_ATTENTION)
    for module in model.modules():
        module._loraline_eager = eager  # type: ignore[assignment]
    token_ids = torch.zeros(batch_size, length, dtype=torch.long, device="meta")
    with _hooks(model, adapted, keep_input), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        body.train()(input_ids=token_ids, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@contextmanager
def _hooks(model: PreTrainedModel, adapted: list[nn.Module], keep_input: Any) -> Iterator[None]:
    """Let gradients begin at the embeddings, and keep the inputs of the adapted layers."""
    embeddings = model.get_input_embeddings()
    handles = [embeddings.register_forward_hook(lambda _, __, output: output.detach().requires_grad_())]
    handles += [layer.register_forward_pre_hook(keep_input) for layer in adapted]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
