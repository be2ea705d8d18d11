"""Load the weights that are evaluated: base, merged model and champion, all held in memory in the same way."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loraline import progress
from loraline.artifacts.base_model import ModelManifest
from loraline.artifacts.evaluation import EvaluatedWeights, Quantization
from loraline.artifacts.merging import MergeReport
from loraline.identity import model_digests
from loraline.models.accelerators import total_memory
from loraline.models.config import ModelConfig
from loraline.models.device import pick_device, pick_dtype
from loraline.models.folder import read_manifest, write_manifest
from loraline.models.loaded import LoadedModel
from loraline.models.safetensors_files import count_parameters
from loraline.units import format_bytes

HEADROOM = 1.25
"""Memory of an evaluation for each byte of weights, by which it is decided whether they have to be quantized."""


def load_weights(model: Path, held: ModelConfig | None = None) -> tuple[LoadedModel, EvaluatedWeights]:
    """Load a model as it is stored, or quantized where the device cannot hold it so.

    Whether it can is computed from the sizes of model and device, and not from what is free at the moment, so that all
    models of a size are held in the same way.

    Args:
        model: a model folder; only read.
        held: the recipe's model section: dtype, device and attention, and the quantization for a model that is too
            large. None: as the folder's manifest asks, and never quantized.

    Raises:
        ModelLoadingError: the model cannot be loaded.
    """
    with _as_asked(model, held) as folder:
        quantization = _quantization(folder, held)
        loaded = LoadedModel.load(folder, quantization=quantization)
    is_merged = (model / MergeReport.FILE).exists()
    return loaded, EvaluatedWeights(
        merged_digest=model_digests.merged_digest(model) if is_merged else None,
        quantization=quantization,
        compute_dtype=str(loaded.model.dtype).removeprefix("torch."),
        device=loaded.model.device.type,
    )


@contextmanager
def _as_asked(model: Path, held: ModelConfig | None) -> Iterator[Path]:
    """A folder of links to a model's files, whose manifest asks for what the recipe does, and with no more trust."""
    if held is None:
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="loraline-model-") as name:
        folder = Path(name)
        for path in model.iterdir():
            if path.name != ModelManifest.FILE:
                (folder / path.name).symlink_to(path.resolve())
        own = read_manifest(model)
        asked = {field: getattr(held, field) for field in ("compute_dtype", "device", "attention")}
        trust = own.trust_remote_code and held.trust_remote_code
        write_manifest(folder, own.model_copy(update={**asked, "trust_remote_code": trust}))
        yield folder


def _quantization(folder: Path, held: ModelConfig | None) -> Quantization:
    """The recipe's quantization where the device cannot hold the model without, else none."""
    if held is None or held.quantization == "none":
        return "none"
    device = pick_device(held.device)
    dtype = pick_dtype(device, held.compute_dtype)
    needed = int(count_parameters(folder) * dtype.itemsize * HEADROOM)
    if needed <= (capacity := total_memory(device)):
        return "none"
    progress.note(
        f"the evaluation quantizes the weights to {held.quantization}: as they are stored it needs "
        f"{format_bytes(needed)}, and {device} has {format_bytes(capacity)}"
    )
    return held.quantization
