"""Talk to a model: the answer to a conversation, piece by piece as it comes."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from loraline.artifacts.dataset_files import Message
from loraline.data.chat import encode_prompt
from loraline.errors import ConfigurationError
from loraline.models.loaded import Subject
from loraline.safety import read_policy
from loraline.serving.guard import Guard


class Conversation:
    """A model in memory, ready to answer.

    The prompt becomes tokens as in training and evaluation, and the answer ends where they end it.
    """

    def __init__(self, model: Path, adapter: Path | None = None, guard: Guard | None = None) -> None:
        """Load a model folder, with an adapter on it or without.

        Args:
            model: the folder.
            adapter: a PEFT folder.
            guard: stands between people and the model; not given, it holds to the policy that travels with the
                model, where there is one. `Guard(None)` lets all pass.

        Raises:
            ConfigurationError: the model's policy.yaml is not a policy.
            ModelLoadingError: the model cannot be loaded.
            AdapterError: the adapter does not fit the model.
        """
        self._guard = guard or Guard(read_policy(model))
        self._subject = Subject.load(model, adapter)

    def answer(
        self,
        messages: list[Message],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """Answer a conversation; yields the text in pieces, white space included.

        Under a policy it comes in one piece, checked; where it may not be shown, what the policy says instead.

        Args:
            messages: the turns so far: {"role": "system" | "user" | "assistant", "content": text}.
            max_new_tokens: longest answer, in tokens; less where the model's context ends before.
            temperature: 0 takes the likeliest token each time, so that an answer is always the same.
            top_p: with a temperature, sample from the likeliest tokens that together have this probability.
            seed: with a temperature, the same seed gives the same answer.

        Raises:
            ConfigurationError: a value is out of its range, or the conversation fills the model's context.
            DatasetError: the chat template does not take the conversation.
            StorageError: the audit trail cannot be written.
        """
        _check(max_new_tokens, temperature, top_p)
        return self._guard.answer(
            messages, lambda turns: self._generate(turns, max_new_tokens, temperature, top_p, seed)
        )

    def _generate(
        self, messages: list[Message], max_new_tokens: int, temperature: float, top_p: float, seed: int
    ) -> Iterator[str]:
        prompt = encode_prompt(self._subject.tokenizer, messages)
        settings = GenerationConfig(
            max_new_tokens=self._room(prompt, max_new_tokens),
            eos_token_id=self._subject.stop_ids,
            pad_token_id=self._subject.stop_ids[0],
            **({"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}),
        )
        return self._stream(prompt, settings, seed)

    def _room(self, prompt: list[int], max_new_tokens: int) -> int:
        room = self._subject.room_for_answer(prompt, max_new_tokens)
        if room < 1:
            raise ConfigurationError(
                f"the conversation has {len(prompt)} tokens, and the model reads {self._subject.context}; shorten it"
            )
        return room

    def _stream(self, prompt: list[int], settings: GenerationConfig, seed: int) -> Iterator[str]:
        """Generate in a thread, and hand on what comes. Ends the thread when the caller stops listening."""
        ids = torch.tensor([prompt], device=self._subject.network.device)
        pieces = TextIteratorStreamer(self._subject.tokenizer, skip_prompt=True, skip_special_tokens=True)
        abandoned = _Abandoned()
        failures: list[BaseException] = []

        def generate() -> None:
            try:
                torch.manual_seed(seed)
                self._subject.network.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=settings,
                    streamer=pieces,
                    stopping_criteria=StoppingCriteriaList([abandoned]),
                )
            except BaseException as error:  # raised again below, in the thread that listens
                failures.append(error)
                pieces.end()

        thread = threading.Thread(target=generate)
        thread.start()
        try:
            yield from filter(None, pieces)
        finally:
            abandoned.now = True
            thread.join()
        if failures:
            raise failures[0]


class _Abandoned(StoppingCriteria):
    """Stops generation once nobody listens any more."""

    now = False

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> torch.BoolTensor:
        return torch.full((input_ids.shape[0],), self.now, device=input_ids.device)  # type: ignore[return-value]


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
    """Load a model and answer one conversation: `Conversation.answer`, which says what the values mean."""
    return Conversation(model, adapter).answer(
        messages, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed
    )


def _check(max_new_tokens: int, temperature: float, top_p: float) -> None:
    wrong = []
    if max_new_tokens < 1:
        wrong.append(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    if not 0 <= temperature < float("inf"):
        wrong.append(f"temperature must be 0 or more, got {temperature}")
    if not 0 < top_p <= 1:
        wrong.append(f"top_p must be above 0 and at most 1, got {top_p}")
    if wrong:
        raise ConfigurationError("; ".join(wrong))
