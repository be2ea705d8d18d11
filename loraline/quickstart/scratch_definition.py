"""The scratch model's tokenizer and architecture. Needs no torch."""

from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from loraline.quickstart import dates

_BOS, _EOS, _PAD = "<s>", "</s>", "<pad>"
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<' + message.role + '>' + message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
_WORD_PATTERN = r"\p{N}{1,2}| ?\p{L}+|[^\S\n]+|\n+| ?[^\s\p{L}\p{N}]+"
_ROLES = ["<system>", "<user>", "<assistant>"]
_VOCABULARY_SIZE = 1024
_CONTEXT_LENGTH = 4096
_ARCHITECTURE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, which encodes any text.

    Numbers are split into pairs of digits, so that the parts of a date are single tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY_SIZE,
        special_tokens=[_PAD, _BOS, _EOS, *_ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(dates.pretraining_corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_BOS,
        eos_token=_EOS,
        pad_token=_PAD,
        additional_special_tokens=_ROLES,
        chat_template=_CHAT_TEMPLATE,
        model_max_length=_CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def make_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """The configuration of a Llama model with 0.7 million parameters."""
    return LlamaConfig(
        **_ARCHITECTURE,
        vocab_size=len(tokenizer),
        max_position_embeddings=_CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
