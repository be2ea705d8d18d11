"""Inference: stream a model's answer to a conversation."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from loraline.artifacts.dataset_files import Message, Tool
from loraline.data.chat import encode_prompt
from loraline.errors import ConfigurationError
from loraline.models.loaded import LoadedModel
from loraline.safety.policy_files import read_policy
from loraline.serving.guard import Guard


class Conversation:
    """A model in memory that answers conversations.

    Prompts are encoded with the chat template and answers end at the stop tokens of training and evaluation.
    """

    def __init__(self, model: Path, adapter: Path | None = None, guard: Guard | None = None) -> None:
        """Load a model folder, with or without an adapter.

        Args:
            model: the model folder.
            adapter: a PEFT adapter folder.
            guard: applies a policy to prompts and answers. Default: the policy in the model folder, if any.
                `Guard(None)` applies none.

        Raises:
            ConfigurationError: the model's policy.yaml is not a valid policy.
            ModelLoadingError: the model cannot be loaded.
            AdapterError: the adapter does not fit the model.
        """
        self._guard = guard or Guard(read_policy(model))
        self._loaded = LoadedModel.load(model, adapter)

    def answer(
        self,
        messages: list[Message],
        *,
        tools: list[Tool] | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """Stream the answer to a conversation; yields pieces of text.

        With a policy the whole answer is checked first and comes as one piece, or the policy's response instead.

        Args:
            messages: the conversation: {"role": "system" | "user" | "assistant", "content": text}; also calls of tools
                and their results.
            tools: what the assistant may call, as in OpenAI's API.
            max_new_tokens: maximum length of the answer in tokens; limited by the model's context length.
            temperature: 0 is greedy decoding, which always gives the same answer.
            top_p: nucleus sampling, with a temperature above 0.
            seed: random seed of the sampling.

        Raises:
            ConfigurationError: a value is out of range, or the conversation fills the model's context.
            DatasetError: the chat template cannot render the conversation.
            StorageError: the audit trail cannot be written.
        """
        _check(max_new_tokens, temperature, top_p)

        def generate(final_messages: list[Message]) -> Iterator[str]:
            prompt = encode_prompt(self._loaded.tokenizer, final_messages, tools)
            return self._generate(prompt, max_new_tokens, temperature, top_p, seed)

        return self._guard.answer(messages, generate)

    def _generate(
        self, prompt: list[int], max_new_tokens: int, temperature: float, top_p: float, seed: int
    ) -> Iterator[str]:
        settings = GenerationConfig(
            max_new_tokens=self._available_new_tokens(prompt, max_new_tokens),
            eos_token_id=self._loaded.stop_token_ids,
            pad_token_id=self._loaded.stop_token_ids[0],
            **({"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}),
        )
        return self._stream(prompt, settings, seed)

    def _available_new_tokens(self, prompt: list[int], max_new_tokens: int) -> int:
        available = self._loaded.available_new_tokens(prompt, max_new_tokens)
        if available < 1:
            raise ConfigurationError(
                f"the conversation has {len(prompt)} tokens and leaves no room for an answer in the model's context of "
                f"{self._loaded.context_length} tokens; shorten it"
            )
        return available

    def _stream(self, prompt: list[int], settings: GenerationConfig, seed: int) -> Iterator[str]:
        """Generate in a thread and yield the decoded pieces. Generation stops when the caller closes the iterator."""
        ids = torch.tensor([prompt], device=self._loaded.model.device)
        pieces = TextIteratorStreamer(self._loaded.tokenizer, skip_prompt=True, skip_special_tokens=True)
        stop = _StopWhenClosed()
        failures: list[BaseException] = []

        def generate() -> None:
            try:
                torch.manual_seed(seed)
                self._loaded.model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=settings,
                    streamer=pieces,
                    stopping_criteria=StoppingCriteriaList([stop]),
                )
            except BaseException as error:  # raised again below, in the caller's thread
                failures.append(error)
                pieces.end()

        thread = threading.Thread(target=generate)
        thread.start()
        try:
            yield from filter(None, pieces)
        finally:
            stop.is_closed = True
            thread.join()
        if failures:
            raise failures[0]


class _StopWhenClosed(StoppingCriteria):
    """Stops generation when the caller has closed the iterator."""

    is_closed = False

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> torch.BoolTensor:
        return torch.full((input_ids.shape[0],), self.is_closed, device=input_ids.device)  # type: ignore[return-value]


def answer(
    model: Path,
    messages: list[Message],
    adapter: Path | None = None,
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[str]:
    """Load a model and answer one conversation; the arguments are those of `Conversation.answer`."""
    return Conversation(model, adapter).answer(
        messages, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed
    )


def _check(max_new_tokens: int, temperature: float, top_p: float) -> None:
    problems = []
    if max_new_tokens < 1:
        problems.append(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    if not 0 <= temperature < float("inf"):
        problems.append(f"temperature must be 0 or more, got {temperature}")
    if not 0 < top_p <= 1:
        problems.append(f"top_p must be above 0 and at most 1, got {top_p}")
    if problems:
        raise ConfigurationError("; ".join(problems))
