"""Rows as the model reads them, and how surprised it is by each."""

import math
from dataclasses import dataclass

from loraline import progress
from loraline.artifacts.dataset_files import Message
from loraline.data.chat import Encoded, encode_rows
from loraline.data.rows import Row
from loraline.errors import DatasetError, ValidationError
from loraline.evaluation.example_loss import ExampleLoss, example_losses, labelled_tokens
from loraline.models.loaded import LoadedModel


@dataclass(frozen=True)
class Example:
    """A row, and its tokens as far as the model reads."""

    row: Row
    encoded: Encoded
    is_cut: bool


def encode_examples(loaded: LoadedModel, rows: list[Row], source: str) -> tuple[list[Example], list[str]]:
    """Make examples of rows; and the ids of those rows whose labelled tokens are all beyond the context.

    Args:
        loaded: the model, whose tokenizer and context length apply.
        rows: the rows.
        source: where they are from, for a message.

    Raises:
        DatasetError: no row can be scored.
    """
    examples, left_out = [], []
    for row, whole in zip(rows, encode_rows(loaded.tokenizer, rows), strict=True):
        encoded = Encoded(whole.token_ids[: loaded.context_length], whole.loss_mask[: loaded.context_length])
        if labelled_tokens(encoded):
            examples.append(Example(row, encoded, len(encoded.token_ids) < len(whole.token_ids)))
        else:
            left_out.append(row.id)
    if not examples:
        raise DatasetError(
            f"none of the {len(rows)} rows of {source} can be scored: there are none, or all "
            f"answers lie beyond the model's context of {loaded.context_length} tokens; give others"
        )
    return examples, left_out


def score_examples(loaded: LoadedModel, examples: list[Example], unit: str) -> list[ExampleLoss]:
    """The loss of each example; `unit` is what progress calls those that are done.

    Raises:
        ValidationError: the loss of an example is not a number.
    """
    total = len(examples)
    losses = example_losses(
        loaded.model,
        [example.encoded for example in examples],
        advance=lambda done: progress.advance(done, total, unit),
    )
    broken = [
        f"{example.row.id} ({example.row.origin})"
        for example, loss in zip(examples, losses, strict=True)
        if not math.isfinite(loss.nats)
    ]
    if broken:
        raise ValidationError(
            f"the loss of {len(broken)} of {total} examples is not a number: {', '.join(broken[:5])}. "
            f"The model's arithmetic overflows in {loaded.model.dtype}, or its weights are damaged: "
            "set model.compute_dtype=float32, or look at the training's loss curve"
        )
    return losses


def prompt_text(messages: list[Message]) -> str:
    """A conversation, for people: a single user message as it is, others with their roles."""
    if [message["role"] for message in messages] == ["user"]:
        return messages[0]["content"]
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)
