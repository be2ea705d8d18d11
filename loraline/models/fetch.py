"""Fetch a base model, see that it fits, and quantize it where the recipe says so."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from loraline import progress
from loraline.artifacts.base_model import ModelManifest
from loraline.errors import ModelLoadingError
from loraline.identity.digests import digest_folder
from loraline.models.config import FootprintConfig, ModelConfig
from loraline.models.device import place
from loraline.models.folder import write_manifest
from loraline.models.memory import FitPlan, plan
from loraline.models.quantize import quantize
from loraline.sources.model import fetch_model, pin_model


class LoadReport(BaseModel):
    """What load_model did. It is the manifest's content, and the base's size."""

    model_config = ConfigDict(frozen=True)

    source: str
    revision: str
    digest: str
    """sha256 over the names and contents of the base's files."""
    quantization: str
    taken: dict[str, str]
    """Device, type and attention that were taken on this machine, and why."""
    plan: dict[str, Any]
    """The fit plan, row by row."""
    parameters: int
    """Weights of the base, counted once where they are tied."""


def load(config: ModelConfig, footprint: FootprintConfig, base: Path, quantized: Path, pinned: str = "") -> LoadReport:
    """Bring the base model into a folder, with a manifest beside its files.

    Args:
        config: the recipe's model section, its revision pinned.
        footprint: what of the training settings decides how much memory is needed.
        base: folder for the model in its own type; made here.
        quantized: folder for the quantized model; made only if the recipe asks for one.
        pinned: digest that the run began with, of what lies at the source (`pin_model`). Empty: any will do.

    Raises:
        ModelLoadingError: the model does not fit, cannot be had, is not whole, or is not the one that was
            pinned. What does not fit is refused before its weights are fetched.
    """
    fit = plan(config, footprint)
    if not fit.fits:
        raise ModelLoadingError(fit.refusal())
    fetch_model(config.source, config.revision, base, config.trust_remote_code)
    _check_pin(config, pinned)
    manifest = _manifest(config, fit, digest_folder(base, without=frozenset({ModelManifest.FILE})))
    write_manifest(base, manifest)
    manifest = manifest.model_copy(update={"taken": place(base).taken()})
    write_manifest(base, manifest)
    if config.quantization != "none":
        progress.note(f"quantizing to {config.quantization}")
        quantize(base, config.quantization, quantized)
    progress.headline(
        f"{fit.parameters / 1e6:,.1f}M parameters, {manifest.taken['compute_dtype']} on {manifest.taken['device']}"
    )
    return LoadReport(
        source=config.source,
        revision=config.revision,
        digest=manifest.digest,
        quantization=config.quantization,
        taken=manifest.taken,
        plan=manifest.plan,
        parameters=fit.parameters,
    )


def _check_pin(config: ModelConfig, pinned: str) -> None:
    """See that the source still holds what it held when the run began; looked at after fetching, not before."""
    found = pin_model(config.source, config.revision).digest if pinned else ""
    if found != pinned:
        raise ModelLoadingError(
            f"the base at {config.source!r} changed while the run was going on: it began with digest {pinned}, and "
            f"now there is {found}. Start the run again to have the new base, or put the old one back."
        )


def _manifest(config: ModelConfig, fit: FitPlan, digest: str) -> ModelManifest:
    return ModelManifest(
        source=config.source,
        revision=config.revision,
        digest=digest,
        compute_dtype=config.compute_dtype,
        device=config.device,
        attention=config.attention,
        trust_remote_code=config.trust_remote_code,
        plan=fit.as_dict(),
    )
