"""An adapter that vLLM would refuse, or compute wrongly, is told apart from one that it takes."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from loraline.export import vllm
from tests import tiny
from tests.loraline.export.conftest import edit


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("vllm") / "base", tiny.llama(tie_word_embeddings=False))


@pytest.mark.parametrize(
    "settings",
    [{}, {"use_rslora": True}, {"target_modules": ["q_proj", "down_proj"]}, {"target_modules": ["lm_head", "q_proj"]}],
    ids=["all-linear", "rslora", "some", "head"],
)
def test_what_it_takes(base: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    adapter = tiny.save_adapter(tmp_path / "adapter", base, **settings)
    assert vllm.objections(adapter) == []
    assert ("lm_head: only for models" in vllm.options(adapter)) == ("lm_head" in settings.get("target_modules", []))


def test_dora(base: Path, tmp_path: Path) -> None:
    assert vllm.objections(tiny.save_adapter(tmp_path / "adapter", base, use_dora=True)) == [
        "use_dora is set, and it does not do DoRA (PEFTHelper); serve the merged model"
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 513}, "the rank is 513, and the largest that it takes is 512"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern is set, which it does not read"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern is set, which it does not read"),
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"lora_alpha": None}, "lacks lora_alpha"),
    ],
)
def test_settings_that_it_refuses(base: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    edit(adapter / "adapter_config.json", **changes)
    (found,) = vllm.objections(adapter)
    assert said in found


def test_names_that_it_does_not_know(base: Path, tmp_path: Path) -> None:
    adapter = tiny.save_adapter(tmp_path / "adapter", base, target_modules=["q_proj"])
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({f"model.{name}": weight for name, weight in weights.items()}, adapter / "adapter_model.safetensors")
    (found,) = vllm.objections(adapter)
    assert "have names that it does not know" in found


@pytest.mark.parametrize(("rank", "option"), [(8, ""), (16, ""), (17, "32"), (300, "320"), (512, "512")])
def test_the_rank_has_to_be_allowed(base: Path, tmp_path: Path, rank: int, option: str) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(tiny.save_adapter(tmp_path / "made", base), adapter)
    edit(adapter / "adapter_config.json", r=rank)
    assert (f"--max-lora-rank {option}" in vllm.options(adapter)) == bool(option)
    assert ("--max-lora-rank" in vllm.options(adapter)) == bool(option)
