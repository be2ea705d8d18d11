"""What the steps before the gate leave, written by hand: a small run that is right in every part."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DAYS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October")
LINEAGE: dict[str, Any] = {
    "recipe": {
        "data": {"source": "builtin:dates", "eval_fraction": 0.1, "columns": {"prompt": ""}},
        "model": {"source": "scratch:dates", "quantization": "none"},
        "training": {"rank": 16, "learning_rate": 2e-3, "target_modules": ["all-linear"], "use_dora": False},
        "registry": {"model_name": "dates", "bucket": "loraline"},
    },
    "recipe_digest": "5" * 64,
    "code_version": "7" * 64,
    "data": {"source": "builtin:dates", "revision": "", "digest": "d" * 64},
    "model": {"source": "scratch:dates", "revision": "r" * 40, "digest": "b" * 64},
    "libraries": {"torch": "2.13.0", "transformers": "5.23.0"},
}


@dataclass(frozen=True)
class Outputs:
    """The folders of a run's steps."""

    dataset: Path
    base: Path
    tuned: Path
    adapter: Path
    merged: Path
    parity: Path


def write_outputs(folder: Path, count: int = 40) -> Outputs:
    """Write the outputs of a run on `count` held-out examples: the base is always wrong, the tuned seldom."""
    outputs = Outputs(*(folder / name for name in ("dataset", "base", "tuned", "adapter", "merged", "parity")))
    for path in vars(outputs).values():
        path.mkdir(parents=True)
    _write(outputs.dataset / "report.json", dataset_report(count))
    write_evaluation(outputs.base, [_example(i, "the day of the month", 2.9) for i in range(count)])
    write_evaluation(
        outputs.tuned,
        [_example(i, _reference(i) if i % 10 else "the second of May", 0.11 if i % 10 else 1.4) for i in range(count)],
    )
    _write(outputs.adapter / "training.json", training_report())
    _write(outputs.adapter / "mask.json", mask_sample())
    _write(outputs.adapter / "adapter_config.json", {"peft_type": "LORA", "r": 16})
    (outputs.adapter / "adapter_model.safetensors").write_bytes(b"adapter weights " * 100)
    _write(outputs.merged / "config.json", {"model_type": "llama"})
    (outputs.merged / "model.safetensors").write_bytes(b"merged weights " * 1000)
    _write(outputs.merged / "parity.json", parity_report())
    _write(outputs.parity / "parity.json", parity_report())
    return outputs


def change(path: Path, **values: Any) -> None:
    """Replace some values of a JSON file."""
    _write(path, json.loads(path.read_text()) | values)


def write_evaluation(folder: Path, examples: list[dict[str, Any]]) -> None:
    """Write examples.jsonl and the metrics that they come to."""
    with (folder / "examples.jsonl").open("w") as file:
        file.writelines(json.dumps(example) + "\n" for example in examples)
    tokens = sum(example["tokens"] for example in examples)
    loss = math.fsum(example["loss"] for example in examples) / tokens
    means = {
        name: math.fsum(example[name] for example in examples) / len(examples)
        for name in ("exact_match", "token_f1", "rouge_l")
    }
    counts = {"examples": len(examples), "answered": len(examples), "tokens": tokens, "seconds": 4.2}
    _write(folder / "metrics.json", {"loss": loss, "perplexity": math.exp(loss), **means, **counts})


def _reference(number: int) -> str:
    return f"the {DAYS[number % 10]} of {MONTHS[(number * 7) % 10]}"


def _example(number: int, answer: str, loss_per_token: float) -> dict[str, Any]:
    reference = _reference(number)
    shared = len(set(answer.split()) & set(reference.split())) / len(reference.split())
    return {
        "id": hashlib.md5(str(number).encode()).hexdigest(),
        "prompt": f"Write this date in words: {number % 10 + 1:02}/{(number * 7) % 10 + 1:02}",
        "reference": reference,
        "answer": answer,
        "loss": loss_per_token * (5 + number % 3),
        "tokens": 5 + number % 3,
        "exact_match": float(answer == reference),
        "token_f1": shared,
        "rouge_l": shared,
    }


def training_report(steps: int = 180) -> dict[str, Any]:
    """A training.json whose loss falls and whose gradient moves."""
    history: list[dict[str, float]] = [{"step": 0, "eval_loss": 2.9}]
    for step in range(1, steps + 1):
        wobble = 0.12 * math.sin(step * 1.7) * math.exp(-step / 150)
        rate = 2e-3 * min(1.0, step / 8) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        point = {
            "step": step,
            "loss": 2.7 * math.exp(-step / 40) + 0.12 + wobble,
            "learning_rate": rate,
            "gradient_norm": 1.9 * math.exp(-step / 55) + 0.2 + abs(wobble),
            "tokens_per_second": 5200 + 240 * math.sin(step / 9),
        }
        if step % 60 == 0:
            point["eval_loss"] = 2.7 * math.exp(-step / 40) + 0.16
        history.append(point)
    return {
        "steps": steps,
        "planned_steps": steps,
        "epochs": 3.0,
        "final_loss": history[-1]["loss"],
        "best_eval_loss": history[-1]["eval_loss"],
        "kept_step": steps,
        "history": history,
        "examples": 900,
        "truncated": 0,
        "dropped": 0,
        "tokens": 188_400,
        "labelled_tokens": 61_020,
        "padding_fraction": 0.021,
        "masked_fraction": 0.676,
        "tokens_per_second": 5210.4,
        "seconds": 36.2,
        "trainable_parameters": 73_728,
        "total_parameters": 886_144,
        "device": "cpu",
        "dtype": "float32",
        "attention": "dense mask per row",
        "loss_head": "labelled positions only",
        "peak_memory_bytes": 912_000_000,
        "resumed_from": None,
        "versions": {"torch": "2.13.0", "peft": "0.21.2"},
    }


def mask_sample() -> dict[str, Any]:
    """A mask.json in which the answer carries loss."""
    read = [
        "<s>",
        "<|user|>",
        "\n",
        "Write ",
        "this ",
        "date ",
        "in ",
        "words: ",
        "03",
        "/",
        "05",
        "<|assistant|>",
        "\n",
    ]
    learned = ["the ", "third ", "of ", "May", "</s>"]
    tokens = [{"text": text, "loss": False} for text in read] + [{"text": text, "loss": True} for text in learned]
    samples = [{"id": "0" * 32, "origin": "builtin:dates:17", "length": len(tokens), "tokens": tokens}]
    return {"masked_fraction": 0.676, "samples": samples}


def parity_report() -> dict[str, Any]:
    """A parity.json well within its tolerance."""
    return {
        "max_abs_logit_difference": 0.0021,
        "mean_abs_logit_difference": 0.00013,
        "tolerance": 0.5,
        "max_adapter_effect": 14.2,
        "mean_adapter_effect": 1.9,
        "examples": 16,
        "positions": 640,
        "base_digest": "b" * 64,
        "merged_tensors": 28,
        "seconds": 1.4,
    }


def dataset_report(held_out: int) -> dict[str, Any]:
    """A dataset's report.json with a row of each fate."""
    lengths = {"rows": 900, "total": 9000, "min": 4, "median": 9.0, "mean": 10.0, "p95": 17, "max": 23}
    return {
        "fingerprint": "f" * 64,
        "sources": [
            {"name": "builtin:dates", "bytes": None, "shape": "prompt/completion", "columns": {"prompt": "prompt"}}
        ],
        "rows": {"read": 910 + held_out, "train": 900, "eval": held_out, "bad": 2, "duplicates": 5, "overlap": 3},
        "bad_fraction": 0.002,
        "bad_kinds": {"empty": 1, "type": 1},
        "bad_rows": [
            {"file": "a.jsonl", "line": 7, "column": "completion", "kind": "empty", "reason": "is empty"},
            {"file": "a.jsonl", "line": 9, "column": "prompt", "kind": "type", "reason": "is 3, not a text"},
        ],
        "duplicates": [{"origin": "a.jsonl:12", "first": "a.jsonl:3"}],
        "overlap": [{"origin": "a.jsonl:40", "first": "a.jsonl:31"}],
        "lengths": {
            "edges": {"prompt": [0, 4, 8, 12, 16, 20, 24], "completion": [0, 2, 4, 6, 8]},
            "train": {
                "prompt": {**lengths, "histogram": [0, 40, 310, 340, 160, 40, 10]},
                "completion": {**lengths, "histogram": [0, 20, 480, 350, 50]},
            },
            "eval": {
                "prompt": {**lengths, "histogram": [0, 2, 13, 15, 7, 2, 1]},
                "completion": {**lengths, "histogram": [0, 1, 20, 17, 2]},
            },
        },
        "samples": {"train": [], "eval": []},
    }


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2))
