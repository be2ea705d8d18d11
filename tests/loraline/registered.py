"""A model in the store and the registry, brought there by the gate and register_model themselves."""

from dataclasses import dataclass
from pathlib import Path

from loraline import tracking
from loraline.artifacts.registration import Registration
from loraline.registry.config import RegistryConfig
from loraline.registry.register import register
from tests.loraline.run_outputs import Outputs, run_gate, write_outputs


@dataclass(frozen=True)
class GatedRun:
    """What a run's steps left, and the evidence that the gate made of it."""

    outputs: Outputs
    evidence: Path


def gated_run(folder: Path, weights: bytes) -> GatedRun:
    """A run with an adapter of these weights that the gate promotes."""
    run = GatedRun(write_outputs(folder, weights=weights), folder / "evidence")
    assert run_gate(run.outputs, run.evidence) == "promote"
    return run


def register_gated(run: GatedRun, output: Path, bucket: str, model_name: str = "dates") -> Registration:
    """Register a run's model; the run in MLflow has ended then."""
    config = RegistryConfig(model_name=model_name, bucket=bucket)
    done = register(config, run.outputs.adapter, run.outputs.merged, run.evidence, output)
    tracking.parent_run().close("FINISHED")
    return done


def register_run(folder: Path, weights: bytes, bucket: str, model_name: str = "dates") -> Registration:
    """Register an adapter of these weights; its run has ended."""
    return register_gated(gated_run(folder, weights), folder / "registration", bucket, model_name)
