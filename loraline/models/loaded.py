"""A model that answers, in evaluation or for people, with what makes tokens of text for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transformers import GenerationConfig, PreTrainedTokenizerBase

from loraline.data.chat import stop_token_ids
from loraline.models.folder import context_length, load_tokenizer
from loraline.models.load import load_model


@dataclass(frozen=True)
class Subject:
    """A model in memory, in eval mode."""

    network: Any
    tokenizer: PreTrainedTokenizerBase
    stop_ids: list[int]
    """Tokens that end an answer."""

    @classmethod
    def load(cls, model: Path, adapter: Path | None = None) -> Self:
        """Load a model folder, with an adapter on it or without.

        Raises:
            ModelLoadingError: the model cannot be loaded.
            AdapterError: the adapter does not fit the model.
        """
        tokenizer = load_tokenizer(model)
        network: Any = load_model(model, adapter)
        stop_ids = stop_token_ids(tokenizer, network.generation_config)
        # `generate` fills in what is unset from the model's own settings, such as penalties: leave it none.
        network.generation_config = GenerationConfig()
        return cls(network, tokenizer, stop_ids)

    @property
    def context(self) -> int | None:
        """Most tokens that the model reads at once; None where it has no limit."""
        return context_length(self.network.config)

    def room_for_answer(self, prompt: list[int], max_new_tokens: int) -> int:
        """Longest answer (tokens) that stays within the context; not positive where there is no room."""
        return max_new_tokens if self.context is None else min(max_new_tokens, self.context - len(prompt))
