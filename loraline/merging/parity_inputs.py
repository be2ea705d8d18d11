"""The evaluation rows that the parity check runs on, as token ids."""

from dataclasses import dataclass
from pathlib import Path

from loraline.data.chat import encode_rows, last_prompt, stop_token_ids
from loraline.data.rows import Row
from loraline.errors import DatasetError
from loraline.merging.config import MergeConfig
from loraline.merging.greedy import GreedyPrompts
from loraline.models.folder import context_length, load_config, load_tokenizer

MAX_TOKENS = 256
"""Longest sequence that is compared; bounds the logits that are held: 16 sequences, vocabulary of 128k: 2 GB."""


@dataclass(frozen=True)
class ParityInputs:
    """What both models compute."""

    sequences: list[list[int]]
    """Token ids of each row, at every position of which logits are compared."""
    prompts: GreedyPrompts

    @property
    def positions(self) -> int:
        """Tokens of all sequences."""
        return sum(map(len, self.sequences))


def choose_inputs(config: MergeConfig, base: Path, rows: list[Row], source: Path) -> ParityInputs:
    """Encode the first rows, cut to the model's context; the prompt of plain text is its first half.

    Raises:
        DatasetError: there are no rows; the message names `source`.
    """
    chosen = rows[: config.parity_examples]
    if not chosen:
        raise DatasetError(f"{source} has no rows to compare the merged model on")
    tokenizer = load_tokenizer(base)
    context = context_length(load_config(base)) or 2 * MAX_TOKENS
    max_new_tokens = min(config.generated_tokens, context // 2)
    max_prompt = min(MAX_TOKENS, context - max_new_tokens)
    sequences, prompts = [], []
    for row, encoded in zip(chosen, encode_rows(tokenizer, chosen), strict=True):
        sequences.append(encoded.token_ids[: min(MAX_TOKENS, context)])
        prompt = encoded.token_ids[: len(encoded.token_ids) // 2] if row.messages is None else last_prompt(encoded)
        prompts.append(prompt[-max_prompt:])
    stop_ids = stop_token_ids(tokenizer)
    return ParityInputs(sequences, GreedyPrompts([prompt for prompt in prompts if prompt], max_new_tokens, stop_ids))
