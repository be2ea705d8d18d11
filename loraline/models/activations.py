"""The size of activations and of the key-value cache, measured on the meta device.

Tensors of torch's meta device have shapes and no contents. The model runs there at its full batch, and the tensors that
autograd saves are counted, so that no architecture needs a formula of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from loraline.models.live_bytes import LiveBytes

_META = "loraline_meta"
"""The name under which transformers knows the attention and the experts below."""


class _MetaAttention(torch.autograd.Function):
    """Attention that computes nothing and saves what a fused kernel saves: inputs, output, a log-sum-exp per query."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, eager: bool) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        saved = [query, key, value]
        if eager:  # the attention weights of all pairs of tokens in float32, and in 16 bit if the model runs in it
            shape = (*query.shape[:-1], key.shape[-2])
            saved += [query.new_empty(shape, dtype=dtype) for dtype in {torch.float32, query.dtype}]
        else:
            saved += [output, query.new_empty(query.shape[:-1], dtype=torch.float32)]
        ctx.save_for_backward(*saved)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise AssertionError("there is no backward pass on the meta device")


def _attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
    eager = getattr(module, "_loraline_eager", False)
    return _MetaAttention.apply(query, key, value, eager).transpose(1, 2), None


AttentionInterface.register(_META, _attention)


class _MetaProduct(torch.autograd.Function):
    """The product of each row with its expert's weight, which saves nothing (`grouped_experts.py`)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, features: int) -> Tensor:
        return rows.new_empty(len(rows), features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise AssertionError("there is no backward pass on the meta device")


def _experts(experts: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """The experts' forward pass without their products, which the meta device has in bfloat16 alone."""
    axis = 2 if experts.is_transposed else 1
    rows = hidden_states.repeat_interleave(top_k_index.shape[-1], dim=0)
    if experts.has_gate:
        rows = experts._apply_gate(_MetaProduct.apply(rows, experts.gate_up_proj.shape[axis]))
    else:
        rows = experts.act_fn(_MetaProduct.apply(rows, experts.up_proj.shape[axis]))
    rows = _MetaProduct.apply(rows, experts.down_proj.shape[axis]) * top_k_weights.reshape(-1, 1)
    return rows.view(*top_k_index.shape, -1).sum(dim=1).to(hidden_states.dtype)


ALL_EXPERTS_FUNCTIONS.register(_META, _experts)


def returns_head_output(model: PreTrainedModel) -> bool:
    """Whether a model returns the output of its output head unchanged, not scaled or soft-capped.

    Args:
        model: on the meta device.

    Raises:
        RuntimeError, NotImplementedError, TypeError, ValueError: as `saved_bytes`.
    """
    _use_meta_layers(model)
    outputs: list[Tensor] = []
    handle = model.get_output_embeddings().register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        with torch.no_grad():
            logits = model(input_ids=torch.zeros(1, 2, dtype=torch.long, device="meta"), use_cache=False).logits
    finally:
        handle.remove()
    return len(outputs) == 1 and outputs[0] is logits


def saved_bytes(model: PreTrainedModel, adapted: list[nn.Module], batch_size: int, length: int, eager: bool) -> int:
    """Bytes that a forward pass saves for its backward pass, without weights and without the output head.

    Args:
        model: on the meta device, in the dtype it trains in.
        adapted: the linear layers that get an adapter. They save their input, which a frozen layer does not.
        batch_size: sequences.
        length: tokens of each sequence.
        eager: whether attention saves the scores of all pairs of tokens.

    Raises:
        RuntimeError, NotImplementedError, TypeError, ValueError: the model's code reads the contents of a tensor (as
            routers of mixtures of experts do), and the meta device has none.
    """
    weights = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, Tensor] = {}  # holds the tensors, so that no address of a storage is reused

    def save(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in weights:
            saved[_storage(tensor)] = tensor
        return tensor

    def save_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        save(inputs[0])

    _use_meta_layers(model)
    for module in model.modules():
        module._loraline_eager = eager  # type: ignore[assignment]
    token_ids = torch.zeros(batch_size, length, dtype=torch.long, device="meta")
    with _hooks(model, adapted, save_input), torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        model.base_model.train()(input_ids=token_ids, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def _use_meta_layers(model: PreTrainedModel) -> None:
    model.set_attn_implementation(_META)
    if model._can_set_experts_implementation():
        model.set_experts_implementation(_META)


@contextmanager
def _hooks(model: PreTrainedModel, adapted: list[nn.Module], save_input: Any) -> Iterator[None]:
    """Let the embeddings' output require gradients, and call `save_input` on the inputs of the adapted layers."""
    embeddings = model.get_input_embeddings()
    handles = [embeddings.register_forward_hook(lambda _, __, output: output.detach().requires_grad_())]
    handles += [layer.register_forward_pre_hook(save_input) for layer in adapted]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@torch.no_grad()
def forward_bytes(model: PreTrainedModel, batch_size: int, length: int) -> int:
    """Bytes of the tensors that exist at one time in a forward pass without gradients and without the output head.

    Args:
        model: on the meta device, in the dtype that it runs in.
        batch_size: sequences.
        length: tokens of each sequence.

    Raises:
        RuntimeError, NotImplementedError, TypeError, ValueError: as `saved_bytes`.
    """
    _use_meta_layers(model)
    token_ids = torch.zeros(batch_size, length, dtype=torch.long, device="meta")
    with LiveBytes(*model.parameters(), *model.buffers()) as counted:
        model.base_model(input_ids=token_ids, use_cache=False)
    return counted.peak


@torch.no_grad()
def cache_bytes(model: PreTrainedModel) -> int:
    """Bytes of the key-value cache for each token of a sequence.

    Raises:
        RuntimeError, NotImplementedError, TypeError, ValueError: as `saved_bytes`.
    """
    _use_meta_layers(model)
    length = 16
    token_ids = torch.zeros(1, length, dtype=torch.long, device="meta")
    cache = model.base_model(input_ids=token_ids, use_cache=True).past_key_values
    held = [value for layer in cache.layers for value in vars(layer).values() if isinstance(value, Tensor)]
    return sum(value.nbytes for value in held) // length
