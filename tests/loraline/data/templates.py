"""Chat templates of the kinds that models ship, written for tests, and tokenizers to go with them."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from loraline.artifacts.dataset_files import Message, Tool

CHATML = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
# The prompt opens the reasoning, and no turn shows it (DeepSeek R1).
OPENS = (
    "{{ bos_token }}{% for m in messages %}<|turn|>{{ m.role }}:"
    "{{ m.content.split('</think>')[-1] }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant:<think>\n{% endif %}"
)
# Reasoning is a key, kept in the last turn alone; thinking can be turned off (Qwen3).
THINKS = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# Content and reasoning are parts (Ministral).
PARTS = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n{% for part in m.content %}{% if part.type == 'thinking' %}"
    "[THINK]{{ part.thinking }}[/THINK]{% else %}{{ part.text }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
# The system message stands before the last message, where that is the user's (Mistral).
LAST_SYSTEM = (
    "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}[I]"
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n{% endif %}{{ m.content }}[/I]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
# Llama 2's.
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
# Tools, calls and results; a call's arguments are text, and ids have nine characters.
TOOLS = (
    "{% if tools %}<|turn|>tools\n{{ tools | tojson }}<|end|>\n{% endif %}"
    "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}{% if call.id | length != 9 %}{{ raise_exception('ids of 9') }}{% endif %}"
    "<call>{{ call.function.name + ' ' + call.function.arguments }}</call>{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
# It says itself what the assistant's text is.
MARKED = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|end|>\n{% endgeneration %}{% else %}{{ m.content }}<|end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
TOOL: Tool = {
    "type": "function",
    "function": {"name": "weather", "description": "of a city", "parameters": {"type": "object", "properties": {}}},
}
CALL: Message = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"name": "weather", "arguments": {"city": "Graz", "days": 2}, "id": "call_1"}],
}
RESULT: Message = {"role": "tool", "content": "dry", "tool_call_id": "call_1", "name": "weather"}
_TEXTS = ["\n 5 \nhello: the sum of", "Response:\nhello", "[INST] hello [/INST] the sum"] * 9
_SPECIAL = ["<unk>", "<s>", "</s>", "<|turn|>", "<|end|>"]


@pytest.fixture
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, as of GPT-2 and Llama 3."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        _TEXTS, trainers.BpeTrainer(vocab_size=330, special_tokens=_SPECIAL, initial_alphabet=alphabet)
    )
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def piece_tokenizer() -> PreTrainedTokenizerFast:
    """Sentencepiece's BPE, as of Llama 2: each text between special tokens gets a sign for its beginning."""
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    pieces = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    made.pre_tokenizer = pre_tokenizers.Metaspace()  # pieces do not reach over a word's beginning
    words = [" ".join(text.split()) for text in _TEXTS]
    made.train_from_iterator(words, trainers.BpeTrainer(vocab_size=400, special_tokens=pieces))
    made.pre_tokenizer = None  # type: ignore[assignment]
    made.add_special_tokens(_SPECIAL)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
