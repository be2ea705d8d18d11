"""Pre-train the scratch model: a small Llama model, on the sentences of the dates corpus."""

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
_BATCH_SIZE = 32
_IGNORE_INDEX = -100
_PEAK_LEARNING_RATE, _WARMUP_STEPS = 3e-3, 30
_SEED = 7


def pretrain(folder: Path) -> None:
    """Train the model and write it with its tokenizer into a folder. Deterministic on the same hardware."""
    transformers.utils.logging.disable_progress_bar()
    tokenizer = make_tokenizer()
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(_SEED)
        model = LlamaForCausalLM(make_config(tokenizer))
        _train(model, _batches(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _batches(tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and labels, each (_BATCH_SIZE, longest): one sentence a row, ended by EOS and padded.

    Sentences are not packed: with one date in the context, its digits are learned with its words sooner. Padding is on
    the right, so that causal attention needs no attention mask.
    """
    corpus = list(islice(dates.pretraining_corpus(), _STEPS * _BATCH_SIZE))
    sentences = tokenizer(corpus, add_special_tokens=False)["input_ids"]
    for first in range(0, len(corpus), _BATCH_SIZE):
        batch = sentences[first : first + _BATCH_SIZE]
        rows = [torch.tensor([*sentence, tokenizer.eos_token_id]) for sentence in batch]
        yield (
            pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id),
            pad_sequence(rows, batch_first=True, padding_value=_IGNORE_INDEX),
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: small matrices gain little from more, and the last bits of results depend on their number."""
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
    if step < _WARMUP_STEPS:
        return _PEAK_LEARNING_RATE * (step + 1) / _WARMUP_STEPS
    return _PEAK_LEARNING_RATE * (1 + math.cos(math.pi * step / _STEPS)) / 2
