"""Merge an adapter into the 16-bit base, and see that the result computes the same."""

import json
import shutil
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel, ConfigDict

from components.merge_adapter.config import MergeConfig
from components.merge_adapter.parity import Parity, compare
from components.merge_adapter.plan import plan_updates
from components.merge_adapter.stream import merge_file
from components.merge_adapter.tensors import FLOATS, read_header, weight_files
from components.shared import progress
from components.shared.chat import encode_rows, stop_token_ids
from components.shared.errors import AdapterError, DatasetError
from components.shared.model_folder import MANIFEST, ModelManifest, load_tokenizer, read_manifest, write_manifest
from components.shared.models import context_length, load_config
from components.shared.rows import read_rows

_TOKENS_PER_ROW = 256  # bounds the logits that are held: 16 rows with a vocabulary of 128k are 2 GB
# What a merged model does not share with its base: other forms of the weights, and what is written anew.
_LEFT_BEHIND = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"}
_NOT_SHARED = {"generation_config.json", MANIFEST, "README.md"}


class MergeReport(BaseModel):
    """What the merge did, and how far the result is from the adapter on its base. Also in parity.json."""

    model_config = ConfigDict(frozen=True)

    max_abs_logit_difference: float
    """Largest difference of any logit, both sides computed in float32."""
    mean_abs_logit_difference: float
    tolerance: float
    """What the largest difference may be."""
    max_adapter_effect: float
    """Largest change of any logit by the adapter: against it the difference is to be seen."""
    mean_adapter_effect: float
    examples: int
    """Rows compared, each at every position up to a length of 256 tokens."""
    positions: int
    """Tokens compared."""
    base_digest: str
    """Digest of the base that the adapter went into."""
    merged_tensors: int
    """Weights that the adapter changed; the others are the base's, byte for byte."""
    seconds: float


def merge(config: MergeConfig, base: Path, adapter: Path, dataset: Path, output: Path) -> MergeReport:
    """Write a standard model folder with the adapter's change in the base's weights, and compare logits.

    The folder has the base's shards, types and files, without what belongs to the base alone. Memory does not
    grow with the model while merging; comparing holds one model at a time, in float32.

    Args:
        config: the tolerance, and how many rows are compared.
        base: folder of the base in 16 or 32 bit, also where training ran on a quantized form of it.
        adapter: the PEFT folder that train_lora wrote.
        dataset: folder with eval.parquet, whose rows are compared.
        output: folder to write; also gets parity.json, the report.

    Raises:
        AdapterError: adapter and base do not belong together, or the merged model is out of tolerance.
        DatasetError: there are no rows to compare on.
        ModelLoadingError: the base cannot be read.
    """
    begin = time.monotonic()
    digest = _check_base(base, adapter)
    rows = _parity_rows(config, base, dataset)
    output.mkdir(parents=True, exist_ok=True)
    merged_tensors = _merge_weights(base, adapter, output)
    _write_other_files(base, output)
    parity = compare(base, adapter, output, rows, lambda done: progress.advance(done, 2 * len(rows), "rows compared"))
    report = MergeReport(
        max_abs_logit_difference=parity.max_difference,
        mean_abs_logit_difference=parity.mean_difference,
        tolerance=config.max_logit_difference,
        max_adapter_effect=parity.max_adapter_effect,
        mean_adapter_effect=parity.mean_adapter_effect,
        examples=len(rows),
        positions=sum(map(len, rows)),
        base_digest=digest,
        merged_tensors=merged_tensors,
        seconds=time.monotonic() - begin,
    )
    (output / "parity.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _judge(parity, config.max_logit_difference)
    return report


def _check_base(base: Path, adapter: Path) -> str:
    """See that the base is not quantized and the one that the adapter was trained on; gives its digest."""
    manifest = read_manifest(base)
    if manifest.quantization != "none" or _read_json(base / "config.json").get("quantization_config"):
        raise AdapterError(f"the base in {base} is quantized; merge into its 16-bit form")
    training = adapter / "training.json"
    trained_on = _read_json(training).get("base_digest") if training.exists() else None
    if not trained_on or not manifest.digest:
        progress.note("nothing says which base the adapter was trained on: only names and shapes are checked")
    elif trained_on != manifest.digest:
        raise AdapterError(
            f"the adapter in {adapter} was trained on the base with digest {trained_on}, but the base in "
            f"{base} has digest {manifest.digest}; merge it into the base that it was trained on, or train again"
        )
    return manifest.digest


def _parity_rows(config: MergeConfig, base: Path, dataset: Path) -> list[list[int]]:
    rows = read_rows(dataset / "eval.parquet")[: config.parity_examples]
    if not rows:
        raise DatasetError(f"{dataset / 'eval.parquet'} has no rows to compare the merged model on")
    encoded = encode_rows(load_tokenizer(base), rows)
    context = context_length(load_config(base)) or _TOKENS_PER_ROW
    return [example.token_ids[: min(_TOKENS_PER_ROW, context)] for example in encoded]


def _merge_weights(base: Path, adapter: Path, output: Path) -> int:
    files = weight_files(base)
    tensors = {tensor.name: tensor for file in files for tensor in read_header(file)}
    updates = {update.tensor: update for update in plan_updates(base, adapter, tensors)}
    odd = [f"{name} is {tensors[name].kind}" for name in updates if tensors[name].kind not in FLOATS]
    if odd:
        raise AdapterError(f"the base in {base} is not in 16 or 32 bit: {odd[0]}; merge into its 16-bit form")
    done = count(1)
    for file in files:
        merge_file(
            file,
            output / file.name,
            adapter,
            updates,
            advance=lambda: progress.advance(next(done), len(updates), "weights merged"),
        )
    return len(updates)


def _write_other_files(base: Path, output: Path) -> None:
    """Bring configuration, tokenizer, chat template and index along; and say where an answer ends."""
    for file in sorted(file for file in base.rglob("*") if file.is_file()):
        name = file.relative_to(base)
        if file.suffix not in _LEFT_BEHIND and str(name) not in _NOT_SHARED:
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, output / name)
    generation = base / "generation_config.json"
    settings = _read_json(generation) if generation.exists() else {}
    # Every server must stop where training taught the model to: also at the chat template's end of a turn.
    settings["eos_token_id"] = stop_token_ids(load_tokenizer(base), SimpleNamespace(**settings))
    (output / generation.name).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    write_manifest(output, ModelManifest(trust_remote_code=read_manifest(base).trust_remote_code))


def _judge(parity: Parity, tolerance: float) -> None:
    figure = f"largest logit difference {parity.max_difference:.3g}"
    if not parity.max_difference <= tolerance:  # also where it is NaN
        raise AdapterError(
            f"the merged model is not the adapter on its base: {figure}, and merge.max_logit_difference "
            f"allows {tolerance}. The adapter itself changes logits by up to {parity.max_adapter_effect:.3g}: "
            "raise the tolerance only where that is far larger than the difference"
        )
    if parity.mean_difference > 0.5 * parity.mean_adapter_effect:
        progress.note(
            "rounding the merged weights takes more than half of what the adapter does (mean "
            f"{parity.mean_difference:.2g} of {parity.mean_adapter_effect:.2g}): it was trained very little"
        )
    progress.headline(f"{figure} of {tolerance} allowed")


def _read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
