"""One family's way through training, evaluation and merge, and what came of it."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open

from loraline.artifacts.merging import MergeReport
from loraline.data.rows import Row, RowWriter
from loraline.errors import LoralineError
from loraline.evaluation.config import EvaluateConfig
from loraline.evaluation.evaluate import evaluate
from loraline.merging.config import MergeConfig
from loraline.merging.merge import merge
from loraline.models.auto_class import auto_class
from loraline.models.folder import load_config
from loraline.models.load import load_model
from loraline.training.config import TrainConfig
from loraline.training.train import train
from tests.families.families import Family

_TRAIN = TrainConfig(rank=4, alpha=8, max_steps=2, batch_size=2, max_length=160, learning_rate=1e-2)


@dataclass(frozen=True)
class Trial:
    """What came of a family."""

    reason: str = ""
    """Why it is refused; empty where all went well."""
    adapted: str = ""
    """The layers that got an adapter, by the last part of their names."""
    unchanged: int = 0
    """Tensors of the files that the merge copied byte for byte, though they are matrices: embeddings, towers, head."""


def attempt(family: Family, folder: Path) -> Trial:
    """Train two steps, merge, evaluate, load the merged model as anybody would, and compare."""
    base, rows, adapter, merged = (folder / name for name in ("base", "rows", "adapter", "merged"))
    family.save(base)
    _save_rows(rows)
    try:
        train(_TRAIN, base, rows, adapter)
        report = merge(MergeConfig(generated_tokens=2, parity_examples=2), base, adapter, rows, merged)
        evaluate(EvaluateConfig(max_new_tokens=2, max_examples=2), merged, rows, folder / "evaluation")
    except LoralineError as error:
        return Trial(reason=str(error))
    _check_logits(base, adapter, merged)
    return Trial("", _adapted(adapter), _unchanged(base, merged, report))


def _check_logits(base: Path, adapter: Path, merged: Path) -> None:
    """The merged folder, loaded by transformers alone, computes what the adapter on its base does, and not the base."""
    ids = torch.arange(5, 45)[None]
    auto: Any = auto_class(load_config(merged))
    alone, info = auto.from_pretrained(merged, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"], info["missing_keys"]
    assert not info["mismatched_keys"]
    tuned: Any = load_model(base, adapter)
    assert isinstance(tuned, PeftModel)
    with torch.no_grad():
        of_merged, of_adapter = alone.eval()(input_ids=ids).logits, tuned(input_ids=ids).logits
        with tuned.disable_adapter():
            of_base = tuned(input_ids=ids).logits
    effect = (of_adapter - of_base).abs().max().item()
    assert effect > 1e-3, "the adapter changes nothing"
    assert (of_merged - of_adapter).abs().max().item() < 1e-3 * max(1.0, effect)


def _unchanged(base: Path, merged: Path, report: MergeReport) -> int:
    """Names and shapes are those of the base; count the matrices that are the base's, bit by bit."""
    before, after = _tensors(base), _tensors(merged)
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert all(before[name].dim() > 1 for name in changed)
    assert 0 < len(changed) <= report.merged_tensors
    assert not [name for name in changed if any(part in name for part in ("vision", "visual", "audio", "projector"))]
    return sum(tensor.dim() > 1 for tensor in before.values()) - len(changed)


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            found |= {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    return found


def _adapted(adapter: Path) -> str:
    with safe_open(adapter / "adapter_model.safetensors", "pt") as tensors:
        names = [name for name in tensors.keys() if "lora_A" in name]  # noqa: SIM118
    paths = [name.split(".lora_A")[0].removesuffix(".base_layer") for name in names]  # PEFT wraps experts twice
    leaves = Counter(path.rsplit(".", 1)[-1] for path in paths)
    return ", ".join(sorted(leaves))


def _save_rows(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, numbers in (("train", range(12)), ("eval", range(100, 103))):
        with RowWriter(folder / f"{name}.parquet") as writer:
            for number in numbers:
                turns = [
                    {"role": "user", "content": f"say {number}" + "!" * (number % 13)},
                    {"role": "assistant", "content": f"{number} it is" * math.ceil(number % 3 + 0.5)},
                ]
                writer.write(Row.of(messages=turns, origin=f"rows.jsonl:{number}"))
