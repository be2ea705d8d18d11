"""A model in memory with its tokenizer, for evaluation and inference."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transformers import GenerationConfig, PreTrainedTokenizerBase

from loraline.data.chat import stop_token_ids
from loraline.models.folder import context_length, load_tokenizer
from loraline.models.load import load_model


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, its tokenizer and its stop tokens."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    stop_token_ids: list[int]
    """Tokens that end an answer."""

    @classmethod
    def load(cls, folder: Path, adapter: Path | None = None, quantization: str = "none") -> Self:
        """Load a model folder, with or without an adapter; `quantization` as of `load_model`.

        Raises:
            ModelLoadingError: the model cannot be loaded.
            AdapterError: the adapter does not fit the model.
        """
        tokenizer = load_tokenizer(folder)
        model: Any = load_model(folder, adapter, quantization=quantization)
        stop_ids = stop_token_ids(tokenizer, model.generation_config)
        # `generate` takes settings that are not given (such as penalties) from here: leave the defaults only.
        model.generation_config = GenerationConfig()
        return cls(model, tokenizer, stop_ids)

    @property
    def context_length(self) -> int | None:
        """Largest number of tokens that the model accepts; None without a limit."""
        return context_length(self.model.config)

    def available_new_tokens(self, prompt: list[int], max_new_tokens: int) -> int:
        """Limit `max_new_tokens` to what fits into the context after a prompt; not positive where nothing fits."""
        if self.context_length is None:
            return max_new_tokens
        return min(max_new_tokens, self.context_length - len(prompt))
