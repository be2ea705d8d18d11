"""Fetch a base model, verify it, and quantize it where the recipe says so: the work of the step load_model."""

from pathlib import Path

from loraline import progress
from loraline.artifacts.base_model import ModelManifest
from loraline.errors import ModelLoadingError
from loraline.feasibility import check_feasibility
from loraline.identity.digests import digest_folder
from loraline.identity.step_identity import step_identity
from loraline.models.chat_settings import write_chat_settings
from loraline.models.config import ModelConfig
from loraline.models.dequantize_checkpoint import dequantize_checkpoint
from loraline.models.device import resolve_device
from loraline.models.folder import write_manifest
from loraline.models.quantize import quantize
from loraline.models.safetensors_files import count_parameters
from loraline.sources.model import fetch_model, pin_model


def fetch_base(config: ModelConfig, base: Path, quantized: Path, pinned: str = "") -> ModelManifest:
    """Fetch the base model into a folder, and write its manifest.

    No training setting is an argument: another rank, batch size or length fetches no base again.

    Args:
        config: the recipe's model section, its revision pinned.
        base: folder for the model in the dtype that it is stored in; is created.
        quantized: folder for the quantized model; is created only if the recipe asks for one.
        pinned: digest of the source when the run began (`pin_model`). Empty: not compared.

    Raises:
        ConfigurationError: what can be read of the base without its weights says that it cannot be trained and merged.
        ModelLoadingError: the model cannot be fetched, is not complete, is not the one that was pinned, or cannot be
            quantized on this device.
    """
    check_feasibility(config).require()
    fetch_model(config.source, config.revision, base, config.trust_remote_code)
    _check_pin(config, pinned)
    dequantize_checkpoint(base, config.source)
    write_chat_settings(base, config.chat_template, config.chat_template_kwargs)
    manifest = ModelManifest(
        source=config.source,
        revision=config.revision,
        digest=digest_folder(base, without=frozenset({ModelManifest.FILE})),
        compute_dtype=config.compute_dtype,
        device=config.device,
        attention=config.attention,
        chat_template_kwargs=config.chat_template_kwargs,
        trust_remote_code=config.trust_remote_code,
        parameters=count_parameters(base),
        identity=step_identity("load_model"),
    )
    write_manifest(base, manifest)  # which `resolve_device` reads
    resolved = resolve_device(base)
    manifest = manifest.model_copy(update={"resolved": resolved})
    write_manifest(base, manifest)
    if config.quantization != "none":
        progress.note(f"quantizing to {config.quantization}")
        quantize(base, config.quantization, quantized)
    progress.headline(f"{manifest.parameters / 1e6:,.1f}M parameters, {resolved.compute_dtype} on {resolved.device}")
    return manifest


def _check_pin(config: ModelConfig, pinned: str) -> None:
    """Compare the source with what it was when the run began; after fetching, so that a change in between shows."""
    now = pin_model(config.source, config.revision).digest if pinned else ""
    if now != pinned:
        raise ModelLoadingError(
            f"the base at {config.source!r} changed while the run was going on: it began with digest {pinned}, and "
            f"now there is {now}. Start the run again to have the new base, or put the old one back."
        )
