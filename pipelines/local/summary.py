"""What a run came to: `runs/<run id>/summary.json`, for programs."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from pipelines.local.run import LocalStep

_FIGURES = ("loss", "perplexity", "exact_match", "token_f1", "rouge_l", "examples")


def write_summary(folder: Path, steps: list[LocalStep]) -> dict[str, Any]:
    """Gather a run's outcome from its steps' outputs into `folder`/summary.json; point runs/latest at it.

    Keys: `verdict`, `reasons`, `base`, `tuned`, `merge`, `training`, `seconds` (by step), `cached` (steps),
    `model_version` (null on reject), `digests`, `where` (paths and addresses).
    """
    outputs = {step.name: step.outputs for step in steps}
    verdict = _read(outputs["gate"]["evidence"], "verdict.json")
    evidence = _read(outputs["gate"]["evidence"], "evidence.json")
    parity = _read(outputs["merge_adapter"]["parity"], "parity.json")
    training = _read(outputs["train_lora"]["adapter"], "training.json")
    registration = _registration(outputs)
    lineage = evidence["lineage"]
    summary = {
        "run": folder.name,
        "verdict": verdict["verdict"],
        "reasons": verdict["reasons"],
        "base": _pick(_read(outputs["evaluate base"]["evaluation"], "metrics.json"), _FIGURES),
        "tuned": _pick(_read(outputs["evaluate tuned"]["evaluation"], "metrics.json"), _FIGURES),
        "merge": _pick(parity, ("max_abs_logit_difference", "tolerance")),
        "training": _pick(training, ("tokens_per_second", "steps", "final_loss")),
        "seconds": {step.name: step.seconds for step in steps},
        "cached": [step.name for step in steps if step.state == "cached"],
        "model_version": registration and _pick(registration, ("model_name", "version", "alias", "url")),
        "digests": {
            "recipe": lineage["recipe_digest"],
            "code": lineage["code_version"],
            "data": lineage["data"]["digest"],
            "dataset": _read(outputs["prepare_dataset"]["dataset"], "report.json")["fingerprint"],
            "base": _read(outputs["load_model"]["base"], "loraline.json")["digest"],
            "model": registration and registration["digest"],
        },
        "where": _gather(folder, outputs),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _point_latest(folder)
    return summary


def _registration(outputs: dict[str, dict[str, str]]) -> dict[str, Any] | None:
    if "register_model" not in outputs:
        return None
    return _read(outputs["register_model"]["registration"], "registration.json")


def _gather(folder: Path, outputs: dict[str, dict[str, str]]) -> dict[str, str]:
    """Put the page and the card into the run's folder, link the heavy parts, and say where all is."""
    shutil.copyfile(outputs["report"]["page"], folder / "report.html")
    shutil.copyfile(outputs["report"]["card"], folder / "README.md")
    heavy = {
        "adapter": outputs["train_lora"]["adapter"],
        "merged": outputs["merge_adapter"]["merged"],
        "dataset": outputs["prepare_dataset"]["dataset"],
        "evidence": outputs["gate"]["evidence"],
    }
    for name, target in heavy.items():
        (folder / name).symlink_to(os.path.relpath(target, folder), target_is_directory=True)
    names = ("report.html", "README.md", *heavy, "pipeline.log", "summary.json")
    return {Path(name).stem if name != "README.md" else "model_card": str(folder / name) for name in names} | {
        "tracking": os.environ["MLFLOW_TRACKING_URI"]
    }


def _point_latest(folder: Path) -> None:
    latest = folder.parent / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(folder.name, target_is_directory=True)


def _read(folder: str, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(folder) / name).read_text())
    return content


def _pick(values: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: values[key] for key in keys}
