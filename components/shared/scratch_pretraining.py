"""The making of the scratch model: a tokenizer, a small Llama, and a short pre-training on sentences."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from components.shared import progress, quickstart

_BOS, _EOS, _PAD = "<s>", "</s>", "<pad>"
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<' + message.role + '>' + message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
_PIECES = r"\p{N}{1,2}| ?\p{L}+|[^\S\n]+|\n+| ?[^\s\p{L}\p{N}]+"
_ROLES = ["<system>", "<user>", "<assistant>"]
_VOCABULARY = 1024
_CONTEXT = 4096
_SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
_STEPS = 600
_BATCH = 32
_NO_LOSS = -100
_PEAK_LEARNING_RATE, _WARMUP = 3e-3, 30
_SEED = 7


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer. It takes any text: what it has not seen, it spells in bytes.

    Digits stand alone, so that numbers are read digit by digit.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[_PAD, _BOS, _EOS, *_ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(quickstart.corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_BOS,
        eos_token=_EOS,
        pad_token=_PAD,
        additional_special_tokens=_ROLES,
        chat_template=_CHAT_TEMPLATE,
        model_max_length=_CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def pretrain(folder: Path) -> None:
    """Make the model and its tokenizer, and write them into a folder. The same bytes each time on one machine."""
    tokenizer = make_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = LlamaForCausalLM(_configuration(tokenizer))
        _train(model, _batches(tokenizer))
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


def _batches(tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and labels, each (_BATCH, longest): one sentence a row, ended by EOS and padded.

    Sentences are not packed: with one date in sight, what stands in digits is soon matched with its words.
    Padding stands on the right, where causal attention never looks back from, so no attention mask is needed.
    """
    sentences = tokenizer(list(quickstart.corpus()), add_special_tokens=False)["input_ids"]
    for step in range(_STEPS):
        first = step * _BATCH % (len(sentences) - _BATCH)
        batch = [torch.tensor([*sentence, tokenizer.eos_token_id]) for sentence in sentences[first : first + _BATCH]]
        yield (
            pad_sequence(batch, batch_first=True, padding_value=tokenizer.pad_token_id),
            pad_sequence(batch, batch_first=True, padding_value=_NO_LOSS),
        )


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
