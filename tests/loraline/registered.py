"""A model in the store and the registry, brought there by the gate and register_model themselves."""

from dataclasses import dataclass
from pathlib import Path

from loraline import tracking
from loraline.artifacts.registration import Registration
from loraline.registry.config import RegistryConfig
from loraline.registry.register import register
from tests.loraline.run_outputs import Outputs, judge_outputs, write_outputs


@dataclass(frozen=True)
class JudgedRun:
    """What a run's steps left, and the evidence that the gate made of it."""

    outputs: Outputs
    evidence: Path


def judged_run(folder: Path, weights: bytes) -> JudgedRun:
    """A run with an adapter of these weights that the gate promotes."""
    run = JudgedRun(write_outputs(folder, weights=weights), folder / "evidence")
    assert judge_outputs(run.outputs, run.evidence) == "promote"
    return run


def register_judged(run: JudgedRun, output: Path, bucket: str, model_name: str = "dates") -> Registration:
    """Register a run's model; the run in MLflow has ended then."""
    config = RegistryConfig(model_name=model_name, bucket=bucket)
    done = register(config, run.outputs.adapter, run.outputs.merged, run.evidence, output)
    tracking.parent_run().close("FINISHED")
    return done


def register_run(folder: Path, weights: bytes, bucket: str, model_name: str = "dates") -> Registration:
    """Register an adapter of these weights; its run has ended."""
    return register_judged(judged_run(folder, weights), folder / "registration", bucket, model_name)
