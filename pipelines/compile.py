"""Compile the pipeline for a cluster."""

from pathlib import Path


def compile_pipeline(output: Path) -> Path:
    """Write the fine-tuning pipeline's package (KFP's YAML), the same bytes for the same code.

    Needs no torch: the steps' bodies are not run.
    """
    from kfp import compiler

    from pipelines.finetune import finetune

    output.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(finetune, str(output))
    return output
