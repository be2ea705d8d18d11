"""Compile the pipelines for a cluster."""

import importlib
from pathlib import Path
from typing import Any

PIPELINES = ("finetune", "retrain", "promote")


def load_pipeline(name: str) -> Any:
    """The pipeline of that name: a function that kfp has decorated."""
    assert name in PIPELINES, name
    return getattr(importlib.import_module(f"pipelines.{name}"), name)


def compile_pipeline(output: Path, name: str = "finetune") -> Path:
    """Write a pipeline's package (KFP's YAML), the same bytes for the same code.

    Needs no torch: the steps' bodies are not run.
    """
    from kfp import compiler

    output.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(load_pipeline(name), str(output))
    return output


def compile_pipelines(folder: Path) -> list[Path]:
    """Write every pipeline's package into a folder, as `<name>.yaml`."""
    return [compile_pipeline(folder / f"{name}.yaml", name) for name in PIPELINES]
