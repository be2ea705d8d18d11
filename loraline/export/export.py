"""Export a model as a Hugging Face folder, as a PEFT adapter, or as one GGUF file."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from loraline.artifacts.base_model import ModelManifest
from loraline.artifacts.merging import MergeReport
from loraline.errors import ConfigurationError
from loraline.export import gguf
from loraline.export.locate import LocatedModel, locate
from loraline.models.model_files import verify_model
from loraline.models.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from loraline.sources.model import parse_model_source

Format = Literal["safetensors", "adapter", "gguf"]
_INTERNAL_FILES = {MergeReport.FILE, ModelManifest.FILE}  # which only Loraline reads


class ExportReport(BaseModel):
    """The result of an export."""

    model_config = ConfigDict(frozen=True)

    path: Path
    """The folder, or the GGUF file."""
    size: int
    """Bytes."""
    verified: str
    """What the files' digests were verified against; empty if there is no record of them."""
    notes: list[str]
    """How to use it, and warnings."""


def export(model: str, output: Path, kind: Format, outtype: gguf.OutType = "auto") -> ExportReport:
    """Write a model in a standard format. Existing files are never overwritten.

    Args:
        model: a folder of a model, an adapter or a run, `s3://bucket/prefix`, `models:/name@alias` or `models:/name/7`.
        output: the folder to create, or for `gguf` the file.
        kind: `safetensors`: the merged model; `adapter`: the PEFT adapter; `gguf`: the merged model for llama.cpp.
        outtype: data type of the weights in a GGUF file.

    Raises:
        ConfigurationError: the model does not exist, `output` does, or the GGUF converter is not installed.
        ValidationError: the files are not those that were registered.
        ModelLoadingError: the model is incomplete or cannot be converted.
        StorageError: the object store or the registry cannot be reached.
    """
    if kind == "gguf":
        gguf.find_converter()  # fail before gigabytes are downloaded
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise ConfigurationError(f"{output} exists already; give another path, or remove it first")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
        scratch, exported = Path(folder) / "fetched", Path(folder) / output.name
        scratch.mkdir()
        source = locate(model, "adapter" if kind == "adapter" else "merged", scratch)
        notes = [f"the gate rejected this model: {reason}" for reason in source.rejected]
        notes += _write(source, exported, kind, outtype)
        if output.is_dir():
            output.rmdir()
        exported.rename(output)  # atomic
    return ExportReport(path=output, size=_size(output), verified=source.verified, notes=notes)


def _write(source: LocatedModel, output: Path, kind: Format, outtype: gguf.OutType) -> list[str]:
    if kind == "adapter":
        return _write_adapter(source, output)
    verify_model(source.folder, str(source.folder))
    if kind == "gguf":
        gguf.convert(source.folder, output, outtype)
        return [
            f"{gguf.count_tensors(output)} tensors; for `llama-cli -m {output.name}`, or FROM in an Ollama Modelfile"
        ]
    shutil.copytree(source.folder, output, ignore=lambda _, names: _INTERNAL_FILES & set(names))
    return ["load it with transformers' AutoModelForCausalLM and AutoTokenizer, or serve it with `vllm serve`"]


def _write_adapter(source: LocatedModel, output: Path) -> list[str]:
    missing = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if not (source.folder / name).is_file()]
    if missing:
        raise ConfigurationError(f"{source.folder} is not a PEFT adapter: {', '.join(missing)} is missing")
    output.mkdir()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(source.folder / name, output / name)
    if source.template:
        shutil.copyfile(source.template, output / source.template.name)
    notes = ["load it with peft's PeftModel.from_pretrained, on its base", _about_base(output)]
    if source.template:
        notes.append(
            f"it was trained with the chat template {source.template.name}, which is exported with it: serve it with "
            f"--chat-template {source.template.name}"
        )
    return notes


def _about_base(adapter: Path) -> str:
    """Which base model the adapter belongs to, and whether it can be downloaded by that name."""
    settings = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    base, revision = str(settings.get("base_model_name_or_path") or ""), settings.get("revision")
    pinned = f" at revision {revision}" if revision else ""
    if not base:
        return f"{ADAPTER_CONFIG} names no base model: it has to be known when the adapter is loaded"
    if parse_model_source(base).kind == "hub":
        return f"its base model is {base}{pinned} on the Hugging Face Hub"
    return f"its base model is {base}, which cannot be downloaded by that name: copy its folder, and load that"


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
