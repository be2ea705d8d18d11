"""Stored tensors are mapped to parameters as transformers maps them on loading: names, joined and split weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from loraline.errors import ModelLoadingError
from loraline.models.auto_class import auto_class
from loraline.models.stored_layout import StoredLayout, StoredPart
from tests.families.families import family


def rebuilt(parts: list[StoredPart], stored: dict[str, torch.Tensor], shape: torch.Size) -> torch.Tensor:
    """A parameter put together from its parts."""
    rows = torch.full((shape[:-1].numel(), shape[-1]), torch.nan)
    for part in parts:
        tensor = stored[part.tensor].transpose(-1, -2) if part.transposed else stored[part.tensor]
        tensor = tensor.reshape(-1, tensor.shape[-1])
        numbers = torch.arange(len(rows)) if part.rows is None else part.rows
        rows[numbers[numbers >= 0]] = tensor[numbers >= 0]
    return rows.view(shape)


@pytest.mark.parametrize("model_type", ["llama", "qwen3_5", "gemma3", "mixtral", "qwen3_moe", "gpt2"])
def test_parameters_are_their_stored_parts(model_type: str, tmp_path: Path) -> None:
    family(model_type).save(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    auto: Any = auto_class(AutoConfig.from_pretrained(tmp_path))
    network = auto.from_pretrained(tmp_path, dtype=torch.float32)
    layout = StoredLayout(network, {name: tuple(tensor.shape) for name, tensor in stored.items()})
    for name, weight in network.named_parameters():
        if weight.dim() > 1:
            assert torch.equal(rebuilt(layout.parts(name), stored, weight.shape), weight), name
    assert layout.missing() == []
    assert all("visual" in name for name in layout.unused)
    assert bool(layout.unused) == (model_type == "qwen3_5")


def test_names_of_another_version_and_tensors_of_no_module(tmp_path: Path) -> None:
    """Names as earlier versions of transformers saved them; heads that predict several tokens are in no module."""
    family("gemma3").save(tmp_path)
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    renamed = {
        name.replace("language_model.model.", "model.language_model.").replace(
            "vision_tower.", "model.vision_tower."
        ): shape
        for name, shape in shapes.items()
    }
    renamed["mtp.layers.0.mlp.up_proj.weight"] = (48, 32)
    config = AutoConfig.from_pretrained(tmp_path)
    with torch.device("meta"):
        network = auto_class(config).from_config(config)
    layout = StoredLayout(network, renamed)
    assert layout.missing() == []
    assert layout.unused == ["mtp.layers.0.mlp.up_proj.weight"]
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert [part.tensor for part in layout.parts(name)] == [name]
    with pytest.raises(ModelLoadingError, match=r"hold no model\.nowhere"):
        layout.parts("model.nowhere")


def test_experts_that_are_transposed_where_their_shape_is_another(tmp_path: Path) -> None:
    """Qwen3-VL's published experts are stored as (in, out), and those that transformers saves again as (out, in)."""
    config = family("qwen3_vl_moe").config()
    with torch.device("meta"):
        network = auto_class(config).from_config(config)
    name = "model.language_model.layers.0.mlp.experts.down_proj"
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    assert StoredLayout(network, shapes).parts(name) == [StoredPart(name)]
    experts, rows, columns = shapes[name]
    (part,) = StoredLayout(network, shapes | {name: (experts, columns, rows)}).parts(name)
    assert part.transposed
    assert part.rows is not None
    assert part.rows.tolist() == list(range(experts * rows))
