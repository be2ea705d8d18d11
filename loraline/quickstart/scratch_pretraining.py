"""The making of the scratch model: a tokenizer, a small Llama, and a short pre-training on sentences."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from loraline import progress
from loraline.quickstart import dates
from loraline.quickstart.scratch_definition import make_config, make_tokenizer

_STEPS = 600
_BATCH = 32
_NO_LOSS = -100
_PEAK_LEARNING_RATE, _WARMUP = 3e-3, 30
_SEED = 7


def pretrain(folder: Path) -> None:
    """Make the model and its tokenizer, and write them into a folder. The same bytes on like machines."""
    transformers.utils.logging.disable_progress_bar()
    tokenizer = make_tokenizer()
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(_SEED)
        model = LlamaForCausalLM(make_config(tokenizer))
        _train(model, _batches(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _batches(tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and labels, each (_BATCH, longest): one sentence a row, ended by EOS and padded.

    Sentences are not packed: with one date in sight, what stands in digits is soon matched with its words.
    Padding stands on the right, where causal attention never looks back from, so no attention mask is needed.
    """
    sentences = tokenizer(list(islice(dates.corpus(), _STEPS * _BATCH)), add_special_tokens=False)["input_ids"]
    for first in range(0, _STEPS * _BATCH, _BATCH):
        rows = [torch.tensor([*sentence, tokenizer.eos_token_id]) for sentence in sentences[first : first + _BATCH]]
        yield (
            pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id),
            pad_sequence(rows, batch_first=True, padding_value=_NO_LOSS),
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: matrices this small gain little from more, lose much when the machine is busy, and
    come out in other bits with another number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(model: LlamaForCausalLM, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, betas=(0.9, 0.95), fused=True)
    model.train()
    for step, (token_ids, labels) in enumerate(batches):
        loss = model(input_ids=token_ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step)
        optimizer.step()
        optimizer.zero_grad()
        progress.advance(step + 1, _STEPS, "pre-training steps", loss=loss.item())


def _learning_rate(step: int) -> float:
    if step < _WARMUP:
        return _PEAK_LEARNING_RATE * (step + 1) / _WARMUP
    return _PEAK_LEARNING_RATE * (1 + math.cos(math.pi * step / _STEPS)) / 2
