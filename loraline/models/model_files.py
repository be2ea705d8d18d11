"""Which files make up a model folder, and whether one is complete."""

import fnmatch
import json
from collections.abc import Iterable
from pathlib import Path

from loraline.errors import ModelLoadingError

POLICY_FILE = "policy.yaml"
"""Name of the safety policy in a model folder that has one."""

CONFIG = ("config.json", "generation_config.json")
GGUF_SUFFIX = ".gguf"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template*",
)
CODE = ("*.py",)
POLICY = (POLICY_FILE,)
IGNORED = ("*/*", "consolidated*", "adapter_*", "training_args*")
"""Other copies of the weights, adapters, and all sub-folders (onnx, original, ...)."""

VOCABULARIES = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken")


def is_selected(name: str, patterns: Iterable[str]) -> bool:
    """Whether a file matches one of the patterns and is not ignored; `name` is its path below the model folder."""
    return _matches(name, patterns) and not _matches(name, IGNORED)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def verify_model(folder: Path, source: str) -> None:
    """Check that a model folder is complete; all problems are reported at once.

    Raises:
        ModelLoadingError: configuration, weights or tokenizer are missing or truncated.
    """
    names = {path.name for path in folder.iterdir()}
    problems = [] if "config.json" in names else ["config.json is missing"]
    problems += _problems_of_weights(folder, names)
    if not any(_matches(name, VOCABULARIES) for name in names):
        problems.append("there is no tokenizer (tokenizer.json, tokenizer.model or vocab.json)")
    if problems:
        raise ModelLoadingError(f"{source} is not a complete model: {'; '.join(problems)}")


def _problems_of_weights(folder: Path, names: set[str]) -> list[str]:
    from safetensors import SafetensorError, safe_open

    files = sorted(name for name in names if name.endswith(".safetensors"))
    if not files:
        return [
            "there are no safetensors weights (.bin and .pt files are not accepted, because reading them can run "
            "code: load the model once where you trust it, and save it with save_pretrained)"
        ]
    problems = [f"{shard}, which the index names, is missing" for shard in sorted(_shards(folder) - names)]
    for name in files:
        try:
            with safe_open(folder / name, framework="np"):
                pass
        except SafetensorError as error:
            problems.append(f"{name} is truncated or corrupt ({error})")
    return problems


def _shards(folder: Path) -> set[str]:
    """Names of the weight files that an index lists."""
    names: set[str] = set()
    for index in folder.glob("*.safetensors.index.json"):
        names |= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return names
