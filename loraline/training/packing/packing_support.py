"""Whether a model can take packed rows, found out by trying and not from a list of families.

Two short documents are put into one row. Packing is right when no gradient goes from the second document to
the first one's embeddings (exactly none: nothing in between connects them), and when the second document's logits
are those that the model gives it alone, with its own attention.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from loraline.training.packing.attention import PACKED, Layout, packed, refusal

_LENGTHS = (9, 6)
# Of the logits' standard deviation. Rounding stays well below it; wrong positions or a wrong mask do not.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}


def enable_packing(model: PreTrainedModel) -> str:
    """Give a model the packed attention if it can take it.

    Returns:
        Why it cannot, and then the model is as it was; empty where it can.
    """
    before = model.config._attn_implementation
    obstacle = _obstacle_by_design(model)
    if obstacle:
        return obstacle
    alone = _logits_alone(model)
    model.set_attn_implementation(PACKED)
    try:
        obstacle = _obstacle_by_trial(model, alone)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:  # whatever a family's own code trips over
        obstacle = f"its forward pass fails on a packed row: {error}"
    if obstacle:
        model.set_attn_implementation(before)
    return obstacle


def _obstacle_by_design(model: PreTrainedModel) -> str:
    if not model._can_set_attn_implementation():
        return f"{type(model).__name__} has an attention of its own that cannot be replaced"
    if getattr(model.config.get_text_config(), "attention_chunk_size", None):
        return f"{type(model).__name__} attends in chunks"
    return ""


def _tokens(model: PreTrainedModel, device: torch.device) -> Tensor:
    table = model.get_input_embeddings().weight
    assert isinstance(table, Tensor)
    return (torch.arange(sum(_LENGTHS), device=device) * 7 + 3).remainder(table.shape[0])[None]


def _logits_alone(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=_tokens(model, model.device)[:, _LENGTHS[0] :], use_cache=False).logits.float()


def _obstacle_by_trial(model: PreTrainedModel, alone: Tensor) -> str:
    device = model.device
    embedded: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    handle = model.get_input_embeddings().register_forward_hook(keep)
    try:
        layout = Layout(torch.tensor(_LENGTHS).numpy(), device)
        positions = torch.cat([torch.arange(n, device=device) for n in _LENGTHS])[None]
        with torch.enable_grad(), packed(layout):
            output = model(input_ids=_tokens(model, device), position_ids=positions, use_cache=False)
            logits = output.logits[:, _LENGTHS[0] :].float()
            if logits.requires_grad:
                (gradient,) = torch.autograd.grad(logits.square().sum(), embedded[0])
    finally:
        handle.remove()
    if reason := refusal():
        return reason
    if not logits.requires_grad:
        return "no gradient reaches its embeddings"
    if gradient[:, : _LENGTHS[0]].any():
        return "a document in a packed row sees the one before it"
    difference = (logits.detach() - alone).abs().max() / alone.std()
    if not difference <= _TOLERANCE[model.dtype]:
        return f"its logits in a packed row differ by {difference:.2g} standard deviations from those alone"
    return ""
