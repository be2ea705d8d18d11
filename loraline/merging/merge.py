"""Merge an adapter into the 16-bit base, and see that the result computes the same."""

import json
import shutil
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from loraline import progress
from loraline.artifacts.base_model import ModelManifest
from loraline.artifacts.dataset_files import EVAL_ROWS
from loraline.artifacts.merging import MergeReport, QuantizedReport
from loraline.artifacts.training import TrainReport
from loraline.data.chat import encode_rows, last_prompt, stop_token_ids
from loraline.data.rows import Row, read_rows
from loraline.errors import AdapterError, DatasetError
from loraline.identity import model_digests
from loraline.merging.config import MergeConfig
from loraline.merging.greedy import Prompts
from loraline.merging.parity import Apart, Parity, compare, steps
from loraline.merging.served import served_prompts, write_template
from loraline.merging.stream import merge_file
from loraline.merging.tensors import FLOATS, read_header, weight_files
from loraline.merging.updates import plan_updates
from loraline.models.folder import context_length, load_config, load_tokenizer, read_manifest, write_manifest

_TOKENS_PER_ROW = 256  # bounds the logits that are held: 16 rows with a vocabulary of 128k are 2 GB
# What a merged model does not share with its base: other forms of the weights, and what is written anew.
_LEFT_BEHIND = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"}
_NOT_SHARED = {"generation_config.json", ModelManifest.FILE, "README.md"}


def merge(config: MergeConfig, base: Path, adapter: Path, dataset: Path, output: Path) -> MergeReport:
    """Write a standard model folder with the adapter's change in the base's weights, and compare the two.

    The folder has the base's shards, types and files, without what belongs to the base alone, and the chat
    template that training rendered with. Memory does not grow with the model while merging; comparing holds one
    model at a time, in float32. A merged model that is out of its budgets is written with its report all the same:
    to weigh it is the gate's part.

    Args:
        config: the budgets, and how much is compared.
        base: folder of the base in 16 or 32 bit, also where training ran on a quantized form of it.
        adapter: the PEFT folder that train_lora wrote.
        dataset: folder with eval.parquet, whose rows are compared.
        output: folder to write; also gets parity.json, the report.

    Raises:
        AdapterError: adapter and base do not belong together, or the merged weights are not finite.
        DatasetError: there are no rows to compare on.
        ModelLoadingError: the base cannot be read.
    """
    begin = time.monotonic()
    digest = _check_base(base, adapter)
    quantization = _training_report(adapter).get("quantization", "none")
    rows = read_rows(dataset / EVAL_ROWS)
    compared, prompts = _what_to_compare(config, base, rows, dataset)
    output.mkdir(parents=True, exist_ok=True)
    merged_tensors = _merge_weights(base, adapter, output)
    _write_other_files(base, output)
    total = steps(compared, quantization)
    parity = compare(
        *(base, adapter, output, quantization, compared, prompts),
        advance=lambda done: progress.advance(done, total, "rows compared"),
    )
    report = MergeReport(
        max_abs_logit_difference=parity.apart.logits.max,
        mean_abs_logit_difference=parity.apart.logits.mean,
        tolerance=config.max_logit_difference,
        kl_divergence=parity.apart.kl_divergence,
        max_kl_divergence=config.max_kl_divergence,
        greedy=parity.greedy,
        prompts=served_prompts(output, rows),
        quantized=_of_quantized(quantization, parity.quantized),
        max_adapter_effect=parity.effect.logits.max,
        mean_adapter_effect=parity.effect.logits.mean,
        adapter_kl_divergence=parity.effect.kl_divergence,
        examples=len(compared),
        positions=sum(map(len, compared)),
        base_digest=digest,
        adapter_digest=model_digests.adapter_digest(adapter),
        merged_digest=model_digests.merged_digest(output),
        merged_tensors=merged_tensors,
        seconds=time.monotonic() - begin,
    )
    report.save(output)
    _tell(config, parity)
    return report


def _of_quantized(quantization: str, found: Apart | None) -> QuantizedReport | None:
    if found is None:
        return None
    return QuantizedReport(
        quantization=quantization,
        max_abs_logit_difference=found.logits.max,
        mean_abs_logit_difference=found.logits.mean,
        kl_divergence=found.kl_divergence,
    )


def _check_base(base: Path, adapter: Path) -> str:
    """See that the base is not quantized and the one that the adapter was trained on; gives its digest."""
    manifest = read_manifest(base)
    method = _read_json(base / "config.json").get("quantization_config", {}).get("quant_method", "none")
    quantized = manifest.quantization if manifest.quantization != "none" else method
    if quantized != "none":
        raise AdapterError(
            f"the base in {base} is quantized ({quantized}), and rounding the merged weights to so few bits would take "
            "back much of what was learned: merge into its 16-bit form"
        )
    trained_on = _training_report(adapter).get("base_digest")
    if not trained_on or not manifest.digest:
        progress.note("nothing says which base the adapter was trained on: only names and shapes are checked")
    elif trained_on != manifest.digest:
        raise AdapterError(
            f"the adapter in {adapter} was trained on the base with digest {trained_on}, but the base in "
            f"{base} has digest {manifest.digest}; merge it into the base that it was trained on, or train again"
        )
    return manifest.digest


def _training_report(adapter: Path) -> dict[str, Any]:
    path = adapter / TrainReport.FILE
    return _read_json(path) if path.exists() else {}


def _what_to_compare(
    config: MergeConfig, base: Path, rows: list[Row], dataset: Path
) -> tuple[list[list[int]], Prompts]:
    """Rows of tokens whose logits are compared, and the prompts that are answered; of plain text its first half."""
    chosen = rows[: config.parity_examples]
    if not chosen:
        raise DatasetError(f"{dataset / EVAL_ROWS} has no rows to compare the merged model on")
    tokenizer = load_tokenizer(base)
    context = context_length(load_config(base)) or 2 * _TOKENS_PER_ROW
    answer = min(config.generated_tokens, context // 2)
    room = min(_TOKENS_PER_ROW, context - answer)
    token_ids, prompts = [], []
    for row, encoded in zip(chosen, encode_rows(tokenizer, chosen), strict=True):
        token_ids.append(encoded.token_ids[: min(_TOKENS_PER_ROW, context)])
        prompt = encoded.token_ids[: len(encoded.token_ids) // 2] if row.messages is None else last_prompt(encoded)
        prompts.append(prompt[-room:])
    return token_ids, Prompts([prompt for prompt in prompts if prompt], answer, stop_token_ids(tokenizer))


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
    """Bring configuration, tokenizer and index along; say what a prompt looks like, and where an answer ends."""
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
    write_template(output)
    write_manifest(output, ModelManifest(trust_remote_code=read_manifest(base).trust_remote_code))


def _tell(config: MergeConfig, parity: Parity) -> None:
    """Say how near the two are, and what the gate will object to."""
    logits, divergence = parity.apart.logits, parity.apart.kl_divergence
    figure = f"largest logit difference {logits.max:.3g}"
    if not (logits.max <= config.max_logit_difference and divergence.max <= config.max_kl_divergence):  # also NaN
        progress.note(
            f"the merged model is not the adapter on its base: {figure}, and merge.max_logit_difference allows "
            f"{config.max_logit_difference}; KL divergence {divergence.max:.3g} nats, and merge.max_kl_divergence "
            f"allows {config.max_kl_divergence}. The adapter itself changes logits by up to "
            f"{parity.effect.logits.max:.3g}: raise a budget only where that is far larger than the difference"
        )
    greedy = parity.greedy
    if unlike := greedy.examples - greedy.equal - greedy.ties:
        progress.note(f"{unlike} of {greedy.examples} prompts are answered otherwise by the merged model")
    if logits.mean > 0.5 * parity.effect.logits.mean:
        progress.note(
            "rounding the merged weights takes more than half of what the adapter does (mean "
            f"{logits.mean:.2g} of {parity.effect.logits.mean:.2g}): it was trained very little"
        )
    progress.headline(f"{figure} of {config.max_logit_difference} allowed")


def _read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
