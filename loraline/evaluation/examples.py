"""Evaluation examples: rows encoded for a model, and their loss."""

import math
from dataclasses import dataclass

from loraline import progress
from loraline.artifacts.dataset_files import Message
from loraline.data.chat import encode_rows, last_prompt
from loraline.data.chat_tokens import EncodedRow
from loraline.data.messages import message_text
from loraline.data.rows import Row
from loraline.errors import DatasetError, ValidationError
from loraline.evaluation.answer_text import Reference, read_reference
from loraline.evaluation.example_loss import ExampleLoss, example_losses, labelled_tokens
from loraline.evaluation.generate import before_stop
from loraline.models.loaded import LoadedModel


@dataclass(frozen=True)
class Example:
    """A row and its tokens, truncated to the model's context."""

    row: Row
    encoded: EncodedRow
    is_truncated: bool
    prompt: list[int] | None
    """The tokens before the last answer, not truncated; None for plain text."""
    reference: Reference | None
    """The last answer, not truncated; None for plain text."""
    reference_tokens: int = 0
    """Tokens of the last answer, without the one that ends it; 0 for plain text."""


def encode_examples(loaded: LoadedModel, rows: list[Row], source: str) -> tuple[list[Example], list[str]]:
    """Encode rows; also return the ids of those that are left out, having no labelled token within the context.

    Args:
        loaded: the model, whose tokenizer and context length apply.
        rows: the rows.
        source: the file that they are from, for a message.

    Raises:
        DatasetError: no row can be scored.
    """
    examples, left_out = [], []
    for row, full in zip(rows, encode_rows(loaded.tokenizer, rows), strict=True):
        encoded = EncodedRow(full.token_ids[: loaded.context_length], full.loss_mask[: loaded.context_length])
        if labelled_tokens(encoded):
            examples.append(_example(loaded, row, full, encoded))
        else:
            left_out.append(row.id)
    if not examples:
        raise DatasetError(
            f"none of the {len(rows)} rows of {source} can be scored: there are none, or all "
            f"answers lie beyond the model's context of {loaded.context_length} tokens; give others"
        )
    return examples, left_out


def _example(loaded: LoadedModel, row: Row, full: EncodedRow, encoded: EncodedRow) -> Example:
    is_truncated = len(encoded.token_ids) < len(full.token_ids)
    if row.messages is None:
        return Example(row, encoded, is_truncated, None, None)
    answer, _ = before_stop(full.token_ids[full.prompt_length :], loaded.stop_token_ids)
    reference = read_reference(loaded.tokenizer, row, answer)
    return Example(row, encoded, is_truncated, last_prompt(full), reference, len(answer))


def score_examples(loaded: LoadedModel, examples: list[Example], unit: str) -> list[ExampleLoss]:
    """Compute the loss of each example; progress is reported in `unit`.

    Raises:
        ValidationError: the loss of an example is not finite.
    """
    total = len(examples)
    losses = example_losses(
        loaded.model,
        [example.encoded for example in examples],
        advance=lambda done: progress.advance(done, total, unit),
    )
    not_finite = [
        f"{example.row.id} ({example.row.origin})"
        for example, loss in zip(examples, losses, strict=True)
        if not math.isfinite(loss.nats)
    ]
    if not_finite:
        raise ValidationError(
            f"the loss of {len(not_finite)} of {total} examples is not a number: {', '.join(not_finite[:5])}. "
            f"The model's arithmetic overflows in {loaded.model.dtype}, or its weights are damaged: "
            "set model.compute_dtype=float32, or look at the training's loss curve"
        )
    return losses


def prompt_text(messages: list[Message]) -> str:
    """A conversation as text for people: a single user message as it is, several messages with their roles."""
    if [message["role"] for message in messages] == ["user"]:
        return message_text(messages[0])
    return "\n".join(f"{message['role']}: {message_text(message)}" for message in messages)
