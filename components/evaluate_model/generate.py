"""Answers of a model to prompts: greedy, in batches.

transformers' own `generate` takes 10% longer than a bare loop over a key-value cache at a million parameters,
and less above; in return it knows every family's cache.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig

from components.evaluate_model.batches import batches, pad
from components.shared.models import context_length

_TOKENS_PER_BATCH = 32768  # bounds the key-value cache: 4 GB for an 8B model with grouped heads


def room_for_answer(model: Any, prompt: list[int], max_new_tokens: int) -> int:
    """Longest answer (tokens) that stays within the model's context; not positive where there is no room."""
    context = context_length(model.config)
    return max_new_tokens if context is None else min(max_new_tokens, context - len(prompt))


@torch.inference_mode()
def greedy_answers(
    model: Any,
    prompts: list[list[int]],
    *,
    stop_ids: list[int],
    batch_size: int,
    max_new_tokens: int,
    advance: Callable[[int], None],
) -> list[list[int]]:
    """Let the model answer each prompt with its likeliest tokens, up to a stop token.

    Args:
        model: a causal model in eval mode.
        prompts: token ids, each of which leaves room for an answer.
        stop_ids: tokens that end an answer; the one that did is part of the answer.
        batch_size: prompts answered side by side.
        max_new_tokens: longest answer; a prompt near the end of the context gets a shorter one.
        advance: called with the number of prompts done.
    """
    # `generate` fills in what is unset from the model's own settings, such as penalties: leave it none.
    model.generation_config = GenerationConfig()
    answers: dict[int, list[int]] = {}
    rooms = [room_for_answer(model, prompt, max_new_tokens) for prompt in prompts]
    # Prompts of equal room go together, so that none is cut short by another: all but those near the context.
    for room in sorted(set(rooms)):
        members = [i for i, its_room in enumerate(rooms) if its_room == room]
        lengths = [len(prompts[i]) + room for i in members]
        for batch in batches(lengths, batch_size, _TOKENS_PER_BATCH):
            chosen = [members[i] for i in batch]
            found = _answer_batch(model, [prompts[i] for i in chosen], stop_ids, room)
            answers.update(zip(chosen, found, strict=True))
            advance(len(answers))
    return [answers[i] for i in range(len(prompts))]


def _answer_batch(model: Any, prompts: list[list[int]], stop_ids: list[int], max_new_tokens: int) -> list[list[int]]:
    ids, mask = pad(prompts, left=True, device=model.device)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=stop_ids, pad_token_id=stop_ids[0]
    )
    generated = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    return [_up_to_stop(answer, stop_ids) for answer in generated[:, ids.shape[1] :].tolist()]


def _up_to_stop(token_ids: list[int], stop_ids: list[int]) -> list[int]:
    for i, token in enumerate(token_ids):
        if token in stop_ids:
            return token_ids[: i + 1]
    return token_ids
