"""The memory that an evaluation needs, from a model on the meta device."""

from transformers import PreTrainedModel

from loraline.evaluation.config import EvaluateConfig
from loraline.evaluation.example_loss import FLOAT32_POSITIONS, MAX_BATCH_TOKENS
from loraline.evaluation.generate import MAX_CACHED_TOKENS
from loraline.evaluation.weights import HEADROOM
from loraline.models import activations
from loraline.models.config import ModelConfig
from loraline.models.memory_items import NOT_TRACEABLE, MemoryItem, weights_item

_FLOAT32 = 4  # bytes


def evaluation_items(
    model: PreTrainedModel, config: ModelConfig, evaluation: EvaluateConfig, max_length: int, capacity: int
) -> list[MemoryItem]:
    """Compute what evaluating the merged model needs: its weights, and the larger of scoring and generating.

    Args:
        model: on the meta device, in the dtype that it runs in.
        config: the recipe's model section.
        evaluation: the recipe's evaluation section.
        max_length: tokens of the longest row.
        capacity: bytes that the device has; where the weights do not fit as they are, they are quantized.
    """
    weights = weights_item(model, config.model_copy(update={"quantization": "none"}))
    if weights.size * HEADROOM > capacity:
        weights = weights_item(model, config)
    scored, generated = _scoring(model, max_length), generating_item(model, evaluation, max_length)
    return [weights, max(scored, generated, key=lambda item: item.size)]


def _scoring(model: PreTrainedModel, max_length: int) -> MemoryItem:
    """A batch of full rows, all of whose tokens are labels: hidden states, logits, and some of these in float32."""
    vocabulary, itemsize = model.config.get_text_config().vocab_size, model.dtype.itemsize
    rows = max(1, MAX_BATCH_TOKENS // max_length)
    tokens = rows * max_length
    size = tokens * vocabulary * itemsize + min(tokens, FLOAT32_POSITIONS) * vocabulary * 2 * _FLOAT32
    states = tokens * model.config.get_text_config().hidden_size * itemsize
    size = max(forward_bytes(model, rows, max_length), size + 2 * states)
    return MemoryItem("scoring", size, f"{rows} rows of {max_length} tokens at a time, with the logits of their labels")


def generating_item(model: PreTrainedModel, evaluation: EvaluateConfig, max_length: int) -> MemoryItem:
    """The key-value cache of a batch, and the forward pass over its prompts."""
    length = max_length + evaluation.max_new_tokens
    rows = max(1, min(evaluation.batch_size, MAX_CACHED_TOKENS // length))
    size = rows * length * cache_bytes(model) + forward_bytes(model, rows, max_length)
    basis = (
        f"{rows} prompts of {max_length} tokens with {evaluation.max_new_tokens} new ones, and their key-value cache"
    )
    return MemoryItem("generating", size, basis)


def forward_bytes(model: PreTrainedModel, rows: int, length: int) -> int:
    """Bytes of a forward pass without gradients; by a formula where the model cannot be traced."""
    try:
        return activations.forward_bytes(model, rows, length)
    except NOT_TRACEABLE:
        text = model.config.get_text_config()
        widest = getattr(text, "intermediate_size", 4 * text.hidden_size)
        return int(rows * length * (3 * text.hidden_size + 3 * widest) * model.dtype.itemsize)


def cache_bytes(model: PreTrainedModel) -> int:
    """Bytes of the key-value cache for each token; those of full attention where the model cannot be traced."""
    try:
        return activations.cache_bytes(model)
    except NOT_TRACEABLE:
        text = model.config.get_text_config()
        return int(2 * text.num_hidden_layers * text.hidden_size * model.dtype.itemsize)
