"""Greedy decoding of the merged model compared with that of the adapter on its base, by teacher forcing.

The adapter on its base completes some prompts greedily. The merged model then reads prompt and completion in one
forward pass and is asked for its argmax at each position of the completion: the first that differs is where its own
greedy completion would diverge. That gives what generating with both and comparing gives, with one forward pass
instead of one for each token.

Two tokens may be so close that rounding decides between them. A difference counts as a tie where the two largest logits
of the adapter on its base differ by at most twice the spacing of numbers of their size in the dtype that the weights
are stored in. (To allow twice the measured logit difference instead would allow everything: no argmax can change by
more.)
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from loraline.artifacts.merging import GreedyReport


@dataclass(frozen=True)
class GreedyPrompts:
    """Prompts to complete greedily."""

    token_ids: list[list[int]]
    """Token ids of each prompt."""
    max_new_tokens: int
    stop_ids: list[int]
    """Tokens that end a completion."""


@dataclass(frozen=True)
class _Completion:
    token_ids: list[int]
    """Prompt and completion."""
    start: int
    """Length of the prompt."""
    argmax: torch.Tensor
    """Most likely token at each position of the completion, shape (completion,)."""
    is_tie: torch.Tensor
    """Whether the second most likely token is within rounding, shape (completion,)."""


class GreedyReference:
    """Greedy completions of the adapter on its base, to compare the merged model with."""

    def __init__(self, model: Any, prompts: GreedyPrompts, weight_dtype: torch.dtype) -> None:
        """Generate the completions.

        Args:
            model: the adapter on its base, in float32.
            prompts: what it completes.
            weight_dtype: the dtype that the base's weights are stored in.
        """
        spacing = 2 * torch.finfo(weight_dtype).eps
        self._completions = []
        for prompt, completion in zip(prompts.token_ids, _generate(model, prompts), strict=True):
            logits, tokens = _completion_logits(model, prompt + completion, len(prompt)).topk(2)
            is_tie = logits[:, 0] - logits[:, 1] <= spacing * logits[:, 0].abs()
            self._completions.append(_Completion(prompt + completion, len(prompt), tokens[:, 0], is_tie))

    def compare(self, merged: Any) -> GreedyReport:
        """Compare the merged model's argmax at every position, given the reference's tokens before it."""
        equal = ties = 0
        for completion in self._completions:
            argmax = _completion_logits(merged, completion.token_ids, completion.start).argmax(-1)
            differing = (argmax != completion.argmax).nonzero()
            if not len(differing):
                equal += 1
            elif completion.is_tie[differing[0]]:
                ties += 1
        tokens = sum(len(completion.argmax) for completion in self._completions)
        return GreedyReport(examples=len(self._completions), tokens=tokens, equal=equal, ties=ties)


@torch.inference_mode()
def _generate(model: Any, prompts: GreedyPrompts) -> list[list[int]]:
    """Complete all prompts in one batch; a completion includes the token that ends it."""
    if not prompts.token_ids:
        return []
    longest = max(map(len, prompts.token_ids))
    padding = prompts.stop_ids[0]
    ids = torch.tensor([[padding] * (longest - len(p)) + p for p in prompts.token_ids], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts.token_ids], device=model.device)
    # `generate` takes what is not set, such as penalties, from the model's own generation config: clear it.
    model.generation_config = GenerationConfig()
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=prompts.max_new_tokens, eos_token_id=prompts.stop_ids, pad_token_id=padding
    )
    generated = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)[:, longest:].tolist()
    return [_up_to_stop(completion, prompts.stop_ids) for completion in generated]


def _up_to_stop(completion: list[int], stop_ids: list[int]) -> list[int]:
    ends = [i for i, token in enumerate(completion) if token in stop_ids]
    return completion[: ends[0] + 1] if ends else completion


@torch.inference_mode()
def _completion_logits(model: Any, token_ids: list[int], start: int) -> torch.Tensor:
    """Logits at each position of a completion, float32 on the CPU, shape (completion, vocabulary)."""
    ids = torch.tensor([token_ids[:-1]], device=model.device)
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0, start - 1 :]
    return logits.float().cpu()
