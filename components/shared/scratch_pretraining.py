"""The making of the scratch model: a tokenizer, a small Llama, and a short pre-training on sentences."""

import math
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from components.shared import progress, quickstart

_BOS, _EOS, _PAD = "<s>", "</s>", "<pad>"
_VOCABULARY = 1024
_CONTEXT = 4096
_SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
_STEPS = 500
_ROWS, _LENGTH = 16, 128
_PEAK_LEARNING_RATE, _WARMUP = 3e-3, 30
_SEED = 7


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer. It takes any text: what it has not seen, it spells in bytes.

    Digits stand alone, so that numbers are read digit by digit.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[_PAD, _BOS, _EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(quickstart.corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_BOS,
        eos_token=_EOS,
        pad_token=_PAD,
        model_max_length=_CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def pretrain(folder: Path) -> None:
    """Make the model and its tokenizer, and write them into a folder. The same bytes each time on one machine."""
    tokenizer = make_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = LlamaForCausalLM(_configuration(tokenizer))
        rows = _packed_rows(tokenizer)
        _train(model, rows[torch.randperm(len(rows))])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _configuration(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        **_SHAPE,
        vocab_size=len(tokenizer),
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _packed_rows(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """All sentences one after the other, each ended by EOS, cut into rows (rows, _LENGTH)."""
    sentences = tokenizer(list(quickstart.corpus()), add_special_tokens=False)["input_ids"]
    flat = [token for sentence in sentences for token in (*sentence, tokenizer.eos_token_id)]
    whole = len(flat) // _LENGTH * _LENGTH
    return torch.tensor(flat[:whole]).view(-1, _LENGTH)


def _train(model: LlamaForCausalLM, rows: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, betas=(0.9, 0.95), fused=True)
    model.train()
    for step in range(_STEPS):
        first = step * _ROWS % (len(rows) - _ROWS)
        batch = rows[first : first + _ROWS]
        loss = model(input_ids=batch, labels=batch).loss
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
