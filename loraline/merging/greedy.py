"""Does the merged model say what the adapter on its base says, where both take the likeliest token each time?

The adapter on its base answers some prompts. The merged model then reads each answer along and is asked, at each
token, which one it would have chosen: the first that differs is where its own answer would part. That is the
same as to generate both and compare, in one forward pass instead of one for each token.

Two tokens may be so near that rounding decides between them. A difference is excused where the two likeliest logits
of the adapter on its base are no further apart than two logits of that size can be told apart in the type that the
weights are stored in: twice its spacing there. (To excuse what lies within twice the measured difference of
the logits would excuse all: no choice can change by more.)
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from loraline.artifacts.merging import GreedyReport


@dataclass(frozen=True)
class Prompts:
    """What is answered: token ids of each prompt, how long an answer may be, and what ends it."""

    token_ids: list[list[int]]
    max_tokens: int
    stop_ids: list[int]


@dataclass(frozen=True)
class _Answer:
    token_ids: list[int]
    """Prompt and answer."""
    start: int
    """Tokens of the prompt."""
    choices: torch.Tensor
    """The likeliest token at each place of the answer, shape (answer,)."""
    near: torch.Tensor
    """Whether the second is as near as rounding, shape (answer,)."""


class GreedyChoices:
    """The choices of the adapter on its base, to be compared with those of the merged model."""

    def __init__(self, model: Any, prompts: Prompts, stored: torch.dtype) -> None:
        """Let a model in float32 answer.

        Args:
            model: the adapter on its base.
            prompts: what it answers.
            stored: the type that weights are stored in.
        """
        spacing = 2 * torch.finfo(stored).eps
        self._answers = []
        for prompt, answer in zip(prompts.token_ids, _generate(model, prompts), strict=True):
            top, tokens = _choice_logits(model, prompt + answer, len(prompt)).topk(2)
            near = top[:, 0] - top[:, 1] <= spacing * top[:, 0].abs()
            self._answers.append(_Answer(prompt + answer, len(prompt), tokens[:, 0], near))

    def compare(self, merged: Any) -> GreedyReport:
        """Ask the merged model what it would have chosen."""
        equal = ties = 0
        for answer in self._answers:
            chosen = _choice_logits(merged, answer.token_ids, answer.start).argmax(-1)
            parted = (chosen != answer.choices).nonzero()
            if not len(parted):
                equal += 1
            elif answer.near[parted[0]]:
                ties += 1
        tokens = sum(len(answer.choices) for answer in self._answers)
        return GreedyReport(examples=len(self._answers), tokens=tokens, equal=equal, ties=ties)


@torch.inference_mode()
def _generate(model: Any, prompts: Prompts) -> list[list[int]]:
    """Greedy answers, all in one batch; the token that ends one is part of it."""
    if not prompts.token_ids:
        return []
    longest = max(map(len, prompts.token_ids))
    filler = prompts.stop_ids[0]
    ids = torch.tensor([[filler] * (longest - len(p)) + p for p in prompts.token_ids], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts.token_ids], device=model.device)
    # `generate` fills in what is unset from the model's own settings, such as penalties: leave it none.
    model.generation_config = GenerationConfig()
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=prompts.max_tokens, eos_token_id=prompts.stop_ids, pad_token_id=filler
    )
    found = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)[:, longest:].tolist()
    return [_up_to_stop(answer, prompts.stop_ids) for answer in found]


def _up_to_stop(answer: list[int], stop_ids: list[int]) -> list[int]:
    ends = [i for i, token in enumerate(answer) if token in stop_ids]
    return answer[: ends[0] + 1] if ends else answer


@torch.inference_mode()
def _choice_logits(model: Any, token_ids: list[int], start: int) -> torch.Tensor:
    """Logits at each place of an answer, float32 on the CPU, shape (answer, vocabulary)."""
    ids = torch.tensor([token_ids[:-1]], device=model.device)
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0, start - 1 :]
    return logits.float().cpu()
