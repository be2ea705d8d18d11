"""The libraries that compute in each step, and their versions here.

They are read where the step runs, never where a recipe is resolved: that may be an image without them.
"""

from importlib import metadata

COMPUTING = {
    "prepare_dataset": ("datasets", "numpy", "openpyxl", "pyarrow", "tokenizers", "torch", "transformers"),
    "load_model": ("bitsandbytes", "gguf", "safetensors", "tokenizers", "torch", "transformers"),
    "train_lora": ("accelerate", "bitsandbytes", "numpy", "peft", "tokenizers", "torch", "transformers"),
    "evaluate_model": ("bitsandbytes", "lm-eval", "numpy", "peft", "tokenizers", "torch", "transformers"),
    "merge_adapter": (
        "accelerate",
        "bitsandbytes",
        "numpy",
        "peft",
        "safetensors",
        "tokenizers",
        "torch",
        "transformers",
    ),
    "gate": ("numpy",),
    "register_model": ("numpy",),
}
"""Distributions, by step. A step that is not named computes nothing that is kept."""


def library_versions(step: str) -> dict[str, str]:
    """Versions of the libraries that compute in a step, as far as they are installed here."""
    found = {}
    for name in COMPUTING.get(step, ()):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
