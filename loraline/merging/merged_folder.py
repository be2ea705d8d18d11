"""The files of a merged model beside its weights: configuration, tokenizer, chat template, generation settings."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from loraline.artifacts.base_model import ModelManifest
from loraline.data.chat import stop_token_ids
from loraline.merging.serving_prompts import write_chat_template
from loraline.models.folder import load_tokenizer, read_manifest, write_manifest

_GENERATION_CONFIG = "generation_config.json"
# Not copied from the base: its weights in any format, and files that are written anew or describe the base alone.
_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"}
_NOT_COPIED = {_GENERATION_CONFIG, ModelManifest.FILE, "README.md"}


def write_other_files(base: Path, output: Path) -> None:
    """Copy configuration, tokenizer and weight index; write generation config, chat template and manifest."""
    for file in sorted(file for file in base.rglob("*") if file.is_file()):
        name = file.relative_to(base)
        if file.suffix not in _WEIGHT_SUFFIXES and str(name) not in _NOT_COPIED:
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, output / name)
    _write_generation_config(base, output)
    write_chat_template(output)
    write_manifest(output, ModelManifest(trust_remote_code=read_manifest(base).trust_remote_code))


def _write_generation_config(base: Path, output: Path) -> None:
    """Write the base's generation config with the stop tokens of training, such as the chat template's end of turn."""
    file = base / _GENERATION_CONFIG
    settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    settings["eos_token_id"] = stop_token_ids(load_tokenizer(base), SimpleNamespace(**settings))
    (output / _GENERATION_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
