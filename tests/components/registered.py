"""A model in the store and the registry, brought there by the gate and register_model themselves."""

from pathlib import Path
from typing import Any

from components.gate.config import GateConfig
from components.gate.judge import judge
from components.register_model.config import RegistryConfig
from components.register_model.register import Registration, register
from components.shared import tracking
from tests.components.run_outputs import LINEAGE, write_outputs


def register_run(
    folder: Path, weights: bytes, bucket: str, lineage: dict[str, Any] | None = None, model_name: str = "dates"
) -> Registration:
    """Register an adapter of these weights, made from this lineage; its run has ended."""
    outputs = write_outputs(folder)
    (outputs.adapter / "adapter_model.safetensors").write_bytes(weights)
    judge(
        GateConfig(metric="exact_match"),
        lineage or LINEAGE,
        dataset=outputs.dataset,
        base=outputs.base,
        tuned=outputs.tuned,
        adapter=outputs.adapter,
        parity=outputs.parity,
        output=folder / "evidence",
    )
    config = RegistryConfig(model_name=model_name, bucket=bucket)
    done = register(config, outputs.adapter, outputs.merged, folder / "evidence", folder / "registration")
    tracking.parent_run().close("FINISHED")
    return done
