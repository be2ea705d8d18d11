"""Load a model folder into memory, with an adapter or without."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from loraline.errors import AdapterError
from loraline.models.load_base import load_base
from loraline.models.peft_files import ADAPTER_CONFIG

if TYPE_CHECKING:
    from peft import PeftModel


def load_model(
    folder: Path, adapter: Path | None = None, trainable: bool = False, quantization: str = "none"
) -> "PreTrainedModel | PeftModel":
    """Load a model, quantized or not, frozen and in eval mode.

    Args:
        folder: a model folder.
        adapter: a PEFT folder to attach.
        trainable: whether the adapter's weights require gradients.
        quantization: `int8` or `nf4` to quantize weights that are stored in 16 or 32 bit; the result is the model that
            the step load_model stores.

    Raises:
        ModelLoadingError: the weights cannot be loaded, or some are missing.
        AdapterError: the adapter does not fit this model.
    """
    base = load_base(folder, quantization)
    return base if adapter is None else _attach_adapter(base, adapter, trainable).eval()


def _attach_adapter(model: PreTrainedModel, adapter: Path, trainable: bool) -> "PeftModel":
    if not (adapter / ADAPTER_CONFIG).exists():
        raise AdapterError(f"{adapter} is not an adapter: {ADAPTER_CONFIG} is missing")
    from loraline.models.lora_injection import attach_lora  # peft takes seconds to import, and only an adapter needs it

    try:
        return attach_lora(model, adapter, trainable)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        name = json.loads((adapter / ADAPTER_CONFIG).read_text())["base_model_name_or_path"]
        raise AdapterError(
            f"the adapter in {adapter}, trained on {name}, does not fit this base model: {error}"
        ) from error
