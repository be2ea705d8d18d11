"""Hand a model on to what runs it: as a standard folder, as a PEFT adapter, or as one GGUF file."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from loraline.errors import ConfigurationError
from loraline.export import gguf
from loraline.export.locate import Found, find
from loraline.models.model_files import verify_model
from loraline.models.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from loraline.sources.model import parse_model_source

Format = Literal["safetensors", "adapter", "gguf"]
_OF_THE_RUN = {"parity.json", "loraline.json"}  # which say something to Loraline alone


class ExportReport(BaseModel):
    """What was exported."""

    model_config = ConfigDict(frozen=True)

    path: Path
    """The folder, or the GGUF file."""
    size: int
    """Bytes."""
    verified: str
    """What the bytes were compared with before; empty where there was nothing."""
    notes: list[str]
    """What one has to know to use it."""


def export(model: str, output: Path, kind: Format, outtype: gguf.OutType = "auto") -> ExportReport:
    """Write a model in the form that others read. What is there is never written over.

    Args:
        model: a folder of a model, an adapter or a run, `s3://bucket/prefix`, `models:/name@alias` or `models:/name/7`.
        output: the folder to make, or for `gguf` the file.
        kind: `safetensors`: the merged model; `adapter`: in PEFT's layout; `gguf`: the merged model for llama.cpp.
        outtype: type of the weights in a GGUF file.

    Raises:
        ConfigurationError: there is no such model, something is at `output`, or there is no converter to GGUF.
        ValidationError: the model's bytes are not those that were registered.
        ModelLoadingError: the model is not whole, or cannot be converted.
        StorageError: the object store or the registry is away.
    """
    if kind == "gguf":
        gguf.find_converter()  # said before gigabytes are fetched
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise ConfigurationError(f"{output} is there already; name another place, or remove it first")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
        scratch, made = Path(folder) / "fetched", Path(folder) / output.name
        scratch.mkdir()
        found = find(model, "adapter" if kind == "adapter" else "merged", scratch)
        notes = [f"the gate rejected this model: {reason}" for reason in found.rejected]
        notes += _write(found, made, kind, outtype)
        if output.is_dir():
            output.rmdir()
        made.rename(output)  # all of it or nothing
    return ExportReport(path=output, size=_size(output), verified=found.verified, notes=notes)


def _write(found: Found, output: Path, kind: Format, outtype: gguf.OutType) -> list[str]:
    if kind == "adapter":
        return _write_adapter(found, output)
    verify_model(found.folder, str(found.folder))
    if kind == "gguf":
        gguf.convert(found.folder, output, outtype)
        return [f"{gguf.tensors(output)} tensors; for `llama-cli -m {output.name}`, or FROM in an Ollama Modelfile"]
    shutil.copytree(found.folder, output, ignore=lambda _, names: _OF_THE_RUN & set(names))
    return ["load it with transformers' AutoModelForCausalLM and AutoTokenizer, or serve it with `vllm serve`"]


def _write_adapter(found: Found, output: Path) -> list[str]:
    missing = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if not (found.folder / name).is_file()]
    if missing:
        raise ConfigurationError(f"{found.folder} is no adapter of PEFT: {', '.join(missing)} is missing")
    output.mkdir()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(found.folder / name, output / name)
    if found.template:
        shutil.copyfile(found.template, output / found.template.name)
    notes = ["load it with peft's PeftModel.from_pretrained, on its base", _about_base(output)]
    if found.template:
        notes.append(
            f"it was trained with the chat template beside it: serve it with --chat-template {found.template.name}"
        )
    return notes


def _about_base(adapter: Path) -> str:
    """Which base the adapter belongs to, and whether others can fetch that by its name."""
    settings = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    base, revision = str(settings.get("base_model_name_or_path") or ""), settings.get("revision")
    pinned = f" at revision {revision}" if revision else ""
    if not base:
        return f"{ADAPTER_CONFIG} names no base: whoever loads it has to know which"
    if parse_model_source(base).kind == "hub":
        return f"it belongs to {base}{pinned}, of the Hugging Face Hub"
    return f"it belongs to {base}, which servers cannot fetch by that name: bring its folder, and name that to them"


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
