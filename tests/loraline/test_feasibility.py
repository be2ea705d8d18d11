"""Before a weight is fetched, all that stands against a base is said, and what was not looked at, too."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from loraline import storage
from loraline.errors import ConfigurationError
from loraline.feasibility import Feasibility, check_feasibility
from loraline.models.config import ModelConfig
from loraline.sources.weight_headers import read_weight_headers
from loraline.training.config import TrainConfig
from tests.families.families import family


def check(folder: Path, **training: Any) -> Feasibility:
    return check_feasibility(ModelConfig(source=str(folder)), TrainConfig(**training))


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with an image tower, and tied embeddings."""
    return family("gemma3").save(tmp_path_factory.mktemp("gemma"))


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return family("llama").save(tmp_path / "llama")


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder: Path, changes: dict[str, Any]) -> None:
    """Replace tensors of the only file; None removes one."""
    tensors = load_file(folder / "model.safetensors") | changes
    save_file({name: value for name, value in tensors.items() if value is not None}, folder / "model.safetensors")


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """Make libraries look as if they were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in missing else find(name, *rest))


def test_a_base_against_which_nothing_stands(gemma: Path) -> None:
    assert check(gemma) == Feasibility(str(gemma), [], [])
    assert check(gemma, target_modules=["q_proj", "down_proj"], use_dora=True).problems == []


def test_all_problems_are_said_at_once_with_setting_and_reason(gemma: Path) -> None:
    found = check(gemma, target_modules=["q_proj", "fc1", "q_prj", "lm_head"])
    with pytest.raises(ConfigurationError) as error:
        found.require()
    said = str(error.value)
    assert said.startswith(f"the base {str(gemma)!r} cannot be trained, merged and exported with these settings:\n- ")
    assert "training.target_modules: 'fc1' is 'model.vision_tower" in said
    assert "no linear layer is called 'q_prj'; this model has" in said
    assert "'lm_head' shares its weights with the model's input embeddings" in said
    assert len(found.problems) == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM, which continues no text"),
        ({"is_encoder_decoder": True}, "it is an encoder-decoder"),
        ({"model_type": "vit"}, "its model_type 'vit' is none that transformers has as a causal language model"),
        ({"model_type": "no-such"}, "cannot be read.*trust_remote_code"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_a_configuration_that_is_no_base(llama: Path, changes: dict[str, Any], reason: str) -> None:
    change_config(llama, **changes)
    with pytest.raises(ConfigurationError, match=reason):
        check(llama).require()


def test_weights_that_are_not_there(llama: Path) -> None:
    change_tensors(llama, {"model.layers.1.mlp.up_proj.weight": None})
    assert "its files lack weights that its config.json needs: model.layers.1.mlp.up_proj" in check(llama).problems[0]
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    assert "has no model.safetensors; pytorch_model.bin is not accepted" in check(llama).problems[0]


def test_weights_in_eight_bit_cannot_be_merged(llama: Path) -> None:
    import torch

    change_tensors(llama, {"model.layers.1.mlp.up_proj.weight": torch.zeros(48, 32, dtype=torch.float8_e4m3fn)})
    assert "stored as F8_E4M3, and a merge needs them in 16 or 32 bit" in check(llama).problems[0]


def test_experts_that_cannot_be_quantized(tmp_path: Path) -> None:
    family("llama4").save(tmp_path)
    found = check_feasibility(ModelConfig(source=str(tmp_path), quantization="nf4"), TrainConfig())
    assert "model.quantization=nf4: transformers takes another module for Llama4TextExperts" in found.problems[0]


def test_without_torch_what_was_not_looked_at_is_said(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "torch")
    found = check(gemma, target_modules=["q_prj", "o_proj"])
    assert found.problems == ["training.target_modules: no weight is called 'q_prj'; did you mean 'q_proj'?"]
    assert "there is no torch here; load_model and train_lora look" in found.unchecked[0]


def test_without_transformers_the_configuration_alone_is_looked_at(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_config(llama, tie_word_embeddings=True)
    without(monkeypatch, "torch", "transformers")
    found = check(llama, target_modules=["lm_head"])
    assert "'lm_head', which shares its weights with the input embeddings" in found.problems[0]
    assert "the run's first steps look at them" in found.unchecked[0]
    missing = check(tmp_path / "nowhere")
    assert missing.problems == []
    assert "this machine cannot read" in missing.unchecked[0]


def test_headers_are_read_where_the_base_lies(gemma: Path, tmp_path: Path, s3: dict[str, str]) -> None:
    """In an object store as in a folder, also where a header is longer than what is asked for at first."""
    folder = shutil.copytree(gemma, tmp_path / "copy")
    import torch

    change_tensors(folder, {f"a.long.name.{'x' * 150}.{number}": torch.zeros(1) for number in range(900)})
    storage.upload(folder, "s3://feasible/base")
    assert read_weight_headers("s3://feasible/base", "") == read_weight_headers(str(folder), "")
    assert len(read_weight_headers(str(folder), "")) > 900


def test_training_refuses_before_it_loads_weights(llama: Path, tmp_path: Path) -> None:
    from loraline.training.launch import launch

    (llama / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="no linear layer is called 'q_prj'"):
        launch(TrainConfig(target_modules=["q_prj"]), llama, tmp_path, tmp_path / "adapter")
