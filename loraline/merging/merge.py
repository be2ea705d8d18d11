"""Merge an adapter into its 16-bit base, and check that the merged model computes the same."""

import json
import time
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import Any

from loraline import progress
from loraline.artifacts.dataset_files import EVAL_ROWS
from loraline.artifacts.merging import MergeReport, QuantizedReport
from loraline.artifacts.training import TrainedBase
from loraline.data.rows import read_rows
from loraline.errors import AdapterError
from loraline.identity import model_digests
from loraline.identity.step_identity import step_identity
from loraline.merging.config import MergeConfig
from loraline.merging.merged_folder import write_other_files
from loraline.merging.parity import Parity, ParityModels, measure_parity
from loraline.merging.parity_inputs import choose_inputs
from loraline.merging.serving_prompts import serving_prompt_digests
from loraline.merging.streaming_merge import merge_file
from loraline.merging.weight_updates import WeightUpdate, plan_updates
from loraline.models.folder import read_manifest
from loraline.models.safetensors_files import FLOAT_DTYPES, read_header, weight_files


def merge(config: MergeConfig, base: Path, adapter: Path, dataset: Path | None, output: Path) -> MergeReport:
    """Write a standard Hugging Face model folder with the adapter merged into the base's weights, and check parity.

    The folder has the base's shards, dtypes and files, without those that describe the base alone, and the chat
    template that training rendered with. Memory does not grow with the model while merging; the parity check holds one
    model at a time, in float32. A merged model that exceeds a threshold is written with its report all the same: the
    gate decides about it.

    Args:
        config: the thresholds, and how much is compared.
        base: folder of the base in 16 or 32 bit, even if training ran on a quantized form of it.
        adapter: a PEFT folder: that of train_lora, or of an adapter trained elsewhere.
        dataset: folder with eval.parquet, on whose rows the models are compared. None: parity is not measured, which
            the report says and the gate rejects.
        output: folder to write; parity.json in it is the report.

    Raises:
        AdapterError: the adapter does not fit the base, or the merged weights are not finite.
        DatasetError: there are no rows to compare on.
        ModelLoadingError: the base cannot be read.
    """
    begin = time.monotonic()
    trained_on = _trained_base(adapter)
    base_digest = _check_base(base, adapter, trained_on)
    rows = read_rows(dataset / EVAL_ROWS) if dataset else []
    inputs = choose_inputs(config, base, rows, dataset / EVAL_ROWS) if dataset else None
    output.mkdir(parents=True, exist_ok=True)
    merged_tensors = _merge_weights(base, adapter, output)
    write_other_files(base, output)
    parity = None
    if inputs:
        parity = measure_parity(
            ParityModels(base, adapter, output, trained_on.quantization),
            inputs,
            advance=lambda done, total: progress.advance(done, total, "sequences compared"),
        )
    report = MergeReport(
        identity=step_identity("merge_adapter"),
        **_parity_figures(parity),
        max_divergence=config.max_divergence,
        max_effect_change=config.max_effect_change,
        prompts=serving_prompt_digests(output, rows),
        quantized=_quantized_report(trained_on.quantization, parity),
        examples=len(inputs.sequences) if inputs else 0,
        positions=inputs.positions if inputs else 0,
        base_digest=base_digest,
        adapter_digest=model_digests.adapter_digest(adapter),
        merged_digest=model_digests.merged_digest(output),
        merged_tensors=merged_tensors,
        seconds=time.monotonic() - begin,
    )
    report.save(output)
    if parity:
        _log_divergence(report)
    progress.headline(report.headline())
    return report


def _trained_base(adapter: Path) -> TrainedBase:
    """Read which base the adapter was trained on; an adapter trained elsewhere has no training.json."""
    return TrainedBase.load(adapter) if (adapter / TrainedBase.FILE).exists() else TrainedBase()


def _check_base(base: Path, adapter: Path, trained_on: TrainedBase) -> str:
    """Check that the base is not quantized and is the one that the adapter was trained on; return its digest."""
    manifest = read_manifest(base)
    settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
    method = settings.get("quantization_config", {}).get("quant_method", "none")
    quantized = manifest.quantization if manifest.quantization != "none" else method
    if quantized != "none":
        raise AdapterError(
            f"the base in {base} is quantized ({quantized}), and rounding the merged weights to so few bits would undo "
            "much of the training: merge into its 16-bit form"
        )
    if not trained_on.base_digest or not manifest.digest:
        progress.note("no digest says which base the adapter was trained on: only names and shapes are checked")
    elif trained_on.base_digest != manifest.digest:
        raise AdapterError(
            f"the adapter in {adapter} was trained on the base with digest {trained_on.base_digest}, but the base in "
            f"{base} has digest {manifest.digest}; merge it into the base that it was trained on, or train again"
        )
    return manifest.digest


def _merge_weights(base: Path, adapter: Path, output: Path) -> int:
    """Write the merged safetensors files; return the number of weights that the adapter changed."""
    files = weight_files(base)
    tensors = {tensor.name: tensor for file in files for tensor in read_header(file)}
    updates: dict[str, list[WeightUpdate]] = defaultdict(list)
    for update in plan_updates(base, adapter, tensors):
        updates[update.tensor].append(update)
    unsupported = [f"{name} is {tensors[name].dtype}" for name in updates if tensors[name].dtype not in FLOAT_DTYPES]
    if unsupported:
        raise AdapterError(f"the base in {base} is not in 16 or 32 bit: {unsupported[0]}; merge into its 16-bit form")
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


def _parity_figures(parity: Parity | None) -> dict[str, Any]:
    """The figures of the comparison; None each if there was none."""
    divergence, effect = (parity.divergence, parity.adapter_effect) if parity else (None, None)
    return {
        "max_abs_logit_difference": divergence and divergence.logits.max,
        "mean_abs_logit_difference": divergence and divergence.logits.mean,
        "kl_divergence": divergence and divergence.kl_divergence,
        "effect_kept": parity and parity.effect_kept,
        "greedy": parity and parity.greedy,
        "max_adapter_effect": effect and effect.logits.max,
        "mean_adapter_effect": effect and effect.logits.mean,
        "adapter_kl_divergence": effect and effect.kl_divergence,
    }


def _quantized_report(quantization: str, parity: Parity | None) -> QuantizedReport | None:
    if parity is None or parity.quantized is None:
        return None
    return QuantizedReport(
        quantization=quantization,
        max_abs_logit_difference=parity.quantized.logits.max,
        mean_abs_logit_difference=parity.quantized.logits.mean,
        kl_divergence=parity.quantized.kl_divergence,
    )


def _log_divergence(report: MergeReport) -> None:
    """Report what the gate will object to."""
    if not report.exceeds_thresholds:
        return
    mean, high = report.relative_divergences
    progress.note(
        f"the merged model differs from the adapter on its base: it has {report.effect_kept} of the adapter's effect "
        f"(merge.max_effect_change allows {report.max_effect_change:g} from 1), and diverges from it by {mean} of what "
        f"the adapter changes, {high} at the 99th percentile (merge.max_divergence allows {report.max_divergence:g}). "
        "An adapter that was trained very little may drown in the rounding to 16 bit; any other was merged wrongly"
    )
