"""The figures of six tiny training runs, kept in pinned_losses.json, and the one function that makes them.

Test and writer share `measure`. Its models, rows and settings are its own: were they another test's, that test could
not change without the record.

    python -m tests.pinned_losses

writes the record anew. That is legitimate where a change is meant to alter what is computed, such as another order of
rows, another initialization of the adapter, another loss, or where a new version of torch, transformers or PEFT alters
it, and then the change says so. It is not where the code is only moved, renamed, split or made faster: there, a test
that fails has found a mistake. `git diff tests/pinned_losses.json` shows one line for each list, and a run that
diverges from step 1 on (other rows, other weights, another loss) is told from one that does so later (the optimizer).
"""

import json
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from loraline.artifacts.base_model import ModelManifest
from loraline.artifacts.merging import MergeReport
from loraline.data.rows import Row, RowWriter
from loraline.evaluation.config import EvaluateConfig
from loraline.evaluation.evaluate import evaluate
from loraline.merging.config import MergeConfig
from loraline.merging.merge import merge
from loraline.models.config import ModelConfig
from loraline.models.folder import write_manifest
from loraline.training.config import TrainConfig
from loraline.training.train import train
from tests.tiny import VOCABULARY, tokenizer

RECORD = Path(__file__).with_suffix(".json")

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
# Each has what the others lack: norms of queries and keys, windows, soft caps, fused weights, transposed weights.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "mistral": {"sliding_window": 24},
    "gemma2": {"sliding_window": 24, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 8.0},
    "phi3": {},
    "gpt2": {
        **{"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
        # The only one with dropout of its own, and what is dropped differs between x86 (MKL draws it) and ARM.
        **{"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0},
    },
}
_TRAIN = TrainConfig(
    rank=4,
    alpha=8,
    dropout=0.0,
    target_modules=["all-linear"],
    learning_rate=1e-2,
    lr_scheduler_type="cosine",
    warmup_ratio=0.2,
    weight_decay=0.01,
    epochs=4,
    max_steps=12,
    max_length=160,
    batch_size=2,
    gradient_accumulation_steps=2,
    max_grad_norm=1.0,
    eval_steps=4,
    seed=7,
)


@dataclass(frozen=True)
class Figures:
    """What is pinned of a family's run."""

    labelled_tokens: int
    """Tokens that carried loss: with another number the data were others, and no figure below can agree."""
    losses: list[float]
    gradient_norms: list[float]
    """Before clipping."""
    eval_losses: list[float]
    """Before the first step and after each fourth."""
    tuned_loss: float
    """What the evaluation step finds for the merged model."""


@dataclass(frozen=True)
class Measured:
    """A family's run: what is pinned, and what only has to be within bounds."""

    figures: Figures
    merge: MergeReport
    packed_rows: int
    """Documents in the fullest forward pass; 0 where documents were not packed."""


def measure(family: str, folder: Path) -> Measured:
    """Train, evaluate and merge a tiny model of a family, in float32 on the CPU.

    Args:
        family: one of FAMILIES.
        folder: an empty folder, where everything is written.
    """
    base, dataset, adapter = folder / "base", folder / "dataset", folder / "adapter"
    _save_base(family, base)
    _save_rows(dataset)
    report = train(_TRAIN, base, dataset, adapter)
    assert (report.device, report.dtype) == ("cpu", "float32")
    merged = merge(MergeConfig(generated_tokens=4), base, adapter, dataset, folder / "merged")
    held = ModelConfig(source=str(base), device="cpu", compute_dtype="float32")
    tuned = evaluate(EvaluateConfig(max_new_tokens=4), folder / "merged", dataset, folder / "evaluation", held=held)
    figures = Figures(
        labelled_tokens=report.labelled_tokens,
        losses=_short_all(point.loss for point in report.history),
        gradient_norms=_short_all(point.grad_norm for point in report.history),
        eval_losses=_short_all(point.eval_loss for point in report.history),
        tuned_loss=_short(tuned.loss),
    )
    return Measured(figures, merged, report.packing.rows if report.packing else 0)


def _short_all(figures: Iterable[float | None]) -> list[float]:
    return [_short(figure) for figure in figures if figure is not None]


def _short(figure: float) -> float:
    return float(f"{figure:.8g}")  # all that float32 holds


def _save_base(family: str, folder: Path) -> None:
    """Write a random model. NumPy draws its weights: torch draws normal ones otherwise with other vector units."""
    config = AutoConfig.for_model(family, **{**_SIZES, **FAMILIES[family]})
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = np.random.default_rng(5)
    for _, weight in sorted(model.named_parameters()):
        # Larger than at birth, so that attention matters, and norms off their ones and zeros, so that they do.
        drawn = torch.from_numpy(generator.normal(scale=0.15, size=tuple(weight.shape)))
        weight.data = (drawn if weight.dim() > 1 else weight.data + drawn).float()
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    write_manifest(folder, ModelManifest(source=family, device="cpu", compute_dtype="float32"))


def _save_rows(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, numbers in (("train", range(54)), ("eval", range(100, 109))):
        with RowWriter(folder / f"{name}.parquet") as writer:
            for number in numbers:
                writer.write(_row(number))


def _row(number: int) -> Row:
    """Of five rows, one is plain text, one has two answers, one a system message; their lengths differ."""
    turns = [
        {"role": "user", "content": f"say {number}" + "!" * (number % 13)},
        {"role": "assistant", "content": f"{number} it is"},
        {"role": "user", "content": "again"},
        {"role": "assistant", "content": f"{number}" * (1 + number % 3)},
    ]
    origin = f"rows.jsonl:{number}"
    if number % 5 == 0:
        return Row.of(text=f"{number} comes before {number + 1}. " * (1 + number % 4), origin=origin)
    if number % 5 == 1:
        return Row.of(messages=turns, origin=origin)
    system = [{"role": "system", "content": "be brief"}] if number % 5 == 2 else []
    return Row.of(messages=[*system, *turns[:2]], origin=origin)


def read_record() -> dict[str, Figures]:
    """The pinned figures of each family."""
    return {family: Figures(**figures) for family, figures in json.loads(RECORD.read_text()).items()}


def _write_record(record: dict[str, Figures]) -> None:
    """Write the record with a line for each list."""
    families = []
    for family, figures in record.items():
        lines = [f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in asdict(figures).items()]
        families.append(f"  {json.dumps(family)}: {{\n" + ",\n".join(lines) + "\n  }")
    RECORD.write_text("{\n" + ",\n".join(families) + "\n}\n")


def main() -> None:
    """Measure all families and write the record."""
    with tempfile.TemporaryDirectory() as folder:
        _write_record({family: measure(family, Path(folder) / family).figures for family in FAMILIES})


if __name__ == "__main__":
    main()
