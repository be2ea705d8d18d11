"""Compile the pipelines for a cluster."""

import importlib
from pathlib import Path
from typing import Any

PIPELINES = {"finetune": "pipelines.finetune", "retrain": "pipelines.retrain", "promote": "pipelines.promotion"}
"""The pipelines by name: each is the function of that name in a module."""


def load_pipeline(name: str) -> Any:
    """Import a pipeline: the function that kfp has decorated.

    Args:
        name: a key of `PIPELINES`.
    """
    return getattr(importlib.import_module(PIPELINES[name]), name)


def compile_pipeline(output: Path, name: str = "finetune") -> Path:
    """Write a pipeline's package (KFP's YAML). The output is deterministic.

    Needs no torch: the bodies of the steps are not run.
    """
    from kfp import compiler

    output.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(load_pipeline(name), str(output))
    return output


def compile_pipelines(folder: Path) -> list[Path]:
    """Write the packages of all pipelines into a folder, as `<name>.yaml`."""
    return [compile_pipeline(folder / f"{name}.yaml", name) for name in PIPELINES]
