"""The loss of each example: the sum of cross-entropy over its labelled tokens.

Shapes: B examples of a batch, T tokens, N labelled tokens of the batch, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from loraline.data.chat_tokens import EncodedRow
from loraline.evaluation.batching import make_batches, pad

MAX_BATCH_TOKENS = 4096
"""Bounds the logits: 1 GB in 16 bit with a vocabulary of 128k."""
FLOAT32_POSITIONS = 512
"""Positions whose logits are in float32 at one time."""


@dataclass(frozen=True)
class ExampleLoss:
    """The loss of one example."""

    nats: float
    """Sum over its labelled tokens."""
    tokens: int
    """Labelled tokens."""


def labelled_tokens(example: EncodedRow) -> int:
    """Number of tokens with loss. The first token is never predicted, and so has none."""
    return sum(example.loss_mask[1:])


@torch.inference_mode()
def example_losses(model: Any, examples: list[EncodedRow], advance: Callable[[int], None]) -> list[ExampleLoss]:
    """Compute the loss of every example with teacher forcing, as in training.

    Args:
        model: a causal model in eval mode.
        examples: each with at least one labelled token, none longer than the model's context.
        advance: called with the number of examples done.
    """
    losses: dict[int, ExampleLoss] = {}
    lengths = [len(example.token_ids) for example in examples]
    for batch in make_batches(lengths, max_rows=len(examples), max_tokens=MAX_BATCH_TOKENS):
        losses.update(zip(batch, _batch_losses(model, [examples[i] for i in batch]), strict=True))
        advance(len(losses))
    return [losses[i] for i in range(len(examples))]


def _batch_losses(model: Any, examples: list[EncodedRow]) -> list[ExampleLoss]:
    ids_BT, mask_BT = pad([example.token_ids for example in examples], left=False, device=model.device)
    counts = [labelled_tokens(example) for example in examples]
    # A token is predicted by the logits one position before it.
    labelled = [[int(label) for label in example.loss_mask[1:]] for example in examples]
    predicts_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    predicts_BT[:, :-1] = pad(labelled, left=False, device=model.device)[0].bool()
    logits_NV = _logits_at(model, ids_BT, mask_BT, predicts_BT)
    targets_N = ids_BT.roll(-1, dims=1)[predicts_BT]
    nats_N = torch.cat(
        [
            cross_entropy(logits.float(), targets, reduction="none")
            for logits, targets in zip(
                logits_NV.split(FLOAT32_POSITIONS), targets_N.split(FLOAT32_POSITIONS), strict=True
            )
        ]
    )
    sums = [part.double().sum().item() for part in nats_N.cpu().split(counts)]
    return [ExampleLoss(nats, tokens) for nats, tokens in zip(sums, counts, strict=True)]


def _logits_at(model: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Logits (N, V) where `positions` (B, T) is true. The output head computes no others: it is the largest layer."""
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, args: (args[0][positions], *args[1:]))
    try:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    finally:
        hook.remove()
    # A model that computes its logits without calling its head returns those of all positions.
    return logits if logits.dim() == 2 else logits[positions]
