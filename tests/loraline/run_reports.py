"""The reports of a run that is right in every part, as its steps write them."""

import math
from typing import Any


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
        "base_digest": "b" * 64,
        "packing": {"rows": 8, "max_difference": 0.00002, "tolerance": 0.001},
        "processes": 1,
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
        "kl_divergence": {"mean": 0.00001, "max": 0.0004},
        "max_kl_divergence": 0.01,
        "greedy": {"examples": 8, "tokens": 180, "equal": 7, "ties": 1},
        "quantized": None,
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
    truncation = {"max_length": 512, "rows": 0, "tokens_cut": 0, "rows_without_answer": 0, "examples": []}
    lengths = {"rows": 900, "total": 9000, "min": 4, "median": 9.0, "mean": 10.0, "p95": 17, "max": 23}
    return {
        "fingerprint": "f" * 64,
        "sources": [
            {"name": "builtin:dates", "bytes": None, "row_format": "prompt-completion", "columns": {"prompt": "prompt"}}
        ],
        "rows": {
            "read": 910 + held_out,
            "train": 900,
            "eval": held_out,
            "bad": 2,
            "duplicates": 5,
            "prompt_overlap": 3,
        },
        "bad_fraction": 0.002,
        "bad_kinds": {"empty": 1, "type": 1},
        "bad_rows": [
            {"file": "a.jsonl", "line": 7, "column": "completion", "kind": "empty", "reason": "is empty"},
            {"file": "a.jsonl", "line": 9, "column": "prompt", "kind": "type", "reason": "is 3, not a text"},
        ],
        "duplicates": [{"origin": "a.jsonl:12", "other_origin": "a.jsonl:3"}],
        "prompt_overlaps": [{"origin": "a.jsonl:40", "other_origin": "a.jsonl:31"}],
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
        "near_duplicates": {
            "similarity": 0.85,
            "action": "report",
            "within_train": 3,
            "within_eval": 0,
            "across": 0,
            "dropped": 0,
            "examples": [
                {"origin": "a.jsonl:50", "other_origin": "a.jsonl:51", "similarity": 0.9, "excerpt": "Write this"}
            ],
        },
        "contamination": {
            "n": 8,
            "eval_examples": held_out,
            "contaminated": 0,
            "fraction": 0.0,
            "ids": [],
            "examples": [],
        },
        "personal_data": {"action": "report", "rows": 0, "dropped": 0, "counts": {}, "examples": []},
        "answers": {"empty": 0, "empty_origins": [], "truncation": truncation},
        "general": None,
        "policy": None,
        "labels": None,
    }
