"""Whether a model supports packed rows, found out by a trial and not from a list of families.

Two short sequences are packed into one row. Packing is right when no gradient flows from the second sequence to the
embeddings of the first (exactly none: nothing connects them), and when the logits of the second sequence are those
that the model computes for it alone, with its original attention.
"""

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from loraline import progress
from loraline.training.packing.attention import packed_attentions, take_unsupported_reason
from loraline.training.packing.packed_sequences import PackedSequences, use_packed_sequences

_LENGTHS = (9, 6)
# In standard deviations of the logits. Rounding stays well below; wrong positions or a wrong mask do not.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}


def enable_packing(model: PreTrainedModel) -> str:
    """Set on a model the fastest packed attention with which it computes packed rows rightly, if there is one.

    Returns:
        Why there is none, and then the model is unchanged; empty where there is one.
    """
    original = model.config._attn_implementation
    reason = _unsupported_by_design(model)
    if reason:
        return reason
    logits_alone = _logits_of_second_alone(model)
    attentions = packed_attentions(model.device, model.dtype)
    for attention in attentions:
        model.set_attn_implementation(attention)
        try:
            reason = _unsupported_by_trial(model, logits_alone)
        except (TypeError, ValueError, RuntimeError, IndexError, ImportError) as error:  # whatever the model raises
            take_unsupported_reason()
            reason = f"its forward pass fails on a packed row: {error}"
        if not reason:
            return ""
        if attention != attentions[-1]:
            progress.note(f"variable-length FlashAttention is not used: {reason}")
    model.set_attn_implementation(original)
    return reason


def _unsupported_by_design(model: PreTrainedModel) -> str:
    if not model._can_set_attn_implementation():
        return f"{type(model).__name__} has an attention implementation of its own that cannot be replaced"
    if getattr(model.config.get_text_config(), "attention_chunk_size", None):
        return f"{type(model).__name__} uses chunked attention"
    return ""


def _token_ids(model: PreTrainedModel) -> Tensor:
    embeddings = model.get_input_embeddings().weight
    assert isinstance(embeddings, Tensor)
    return (torch.arange(sum(_LENGTHS), device=model.device) * 7 + 3).remainder(embeddings.shape[0])[None]


def _logits_of_second_alone(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=_token_ids(model)[:, _LENGTHS[0] :], use_cache=False).logits.float()


def _unsupported_by_trial(model: PreTrainedModel, logits_alone: Tensor) -> str:
    embedded: list[Tensor] = []

    def require_gradient(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    handle = model.get_input_embeddings().register_forward_hook(require_gradient)
    try:
        packed_sequences = PackedSequences(np.array(_LENGTHS), model.device)
        position_ids = torch.cat([torch.arange(n, device=model.device) for n in _LENGTHS])[None]
        with torch.enable_grad(), use_packed_sequences(packed_sequences):
            output = model(input_ids=_token_ids(model), position_ids=position_ids, use_cache=False)
            logits = output.logits[:, _LENGTHS[0] :].float()
            if logits.requires_grad:
                (gradient,) = torch.autograd.grad(logits.square().sum(), embedded[0])
    finally:
        handle.remove()
    if reason := take_unsupported_reason():
        return reason
    if not logits.requires_grad:
        return "no gradient reaches its embeddings"
    if gradient[:, : _LENGTHS[0]].any():
        return "a sequence in a packed row attends to the one before it"
    difference = (logits.detach() - logits_alone).abs().max() / logits_alone.std()
    if not difference <= _TOLERANCE[model.dtype]:
        return f"its logits in a packed row differ by {difference:.2g} standard deviations from those of a single row"
    return ""
