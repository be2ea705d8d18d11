"""The merge of routed experts equals PEFT's, in whatever form the checkpoint holds them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from loraline.errors import AdapterError
from loraline.merging.config import MergeConfig
from loraline.merging.merge import merge
from loraline.merging.weight_updates import plan_updates
from loraline.models.lora_injection import lora_targets
from loraline.models.meta_model import build_meta_model
from loraline.models.safetensors_files import StoredTensor, read_header
from tests import tiny
from tests.families.families import family

MIXTURES = ["mixtral", "qwen3_moe", "deepseek_v3", "gpt_oss", "llama4_text", "granitemoe", "qwen3_next", "phimoe"]
PATTERNS = {
    "rank_pattern": {"experts.down_proj": 2, "layers.0.self_attn.q_proj": 3},
    "alpha_pattern": {"experts.gate_up_proj": 5, "layers.1.self_attn.q_proj": 3},
}


def header(folder: Path) -> dict[str, StoredTensor]:
    return {tensor.name: tensor for tensor in read_header(folder / "model.safetensors")}


def save_adapter(folder: Path, base: Path, **settings: Any) -> Path:
    targets = lora_targets(build_meta_model(base, ""), ["all-linear"])
    modules, parameters = targets.modules, targets.parameters
    return tiny.save_adapter(folder, base, target_modules=modules, target_parameters=parameters, **settings)


@pytest.mark.parametrize("model_type", MIXTURES)
def test_merged_experts_equal_those_of_merge_and_unload(model_type: str, tmp_path: Path) -> None:
    base = family(model_type).save(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base, **PATTERNS)
    report = merge(MergeConfig(), base, adapter, None, tmp_path / "merged")
    assert header(tmp_path / "merged") == header(base)  # names, shapes, types and places
    expected: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter))
    expected = expected.merge_and_unload().state_dict()
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    for name, weight in after.items():
        assert torch.allclose(weight, expected[name], atol=1e-5), name
    changed = [name for name in after if not torch.equal(after[name], before[name])]
    assert any("experts.gate_up_proj" in name for name in changed)
    assert any("experts.down_proj" in name for name in changed)
    assert report.merged_tensors == len(plan_updates(base, adapter, header(base)))


@pytest.mark.parametrize("model_type", ["mixtral", "gpt_oss"])
def test_the_merged_model_computes_what_the_adapter_does(model_type: str, tmp_path: Path) -> None:
    dataset = tiny.save_dataset(tmp_path / "data", [tiny.chat(f"question {i}", "answer " * i) for i in range(3)])
    base = family(model_type).save(tmp_path / "base")
    report = merge(MergeConfig(), base, save_adapter(tmp_path / "adapter", base), dataset, tmp_path / "merged")
    assert report.max_abs_logit_difference is not None
    assert report.max_adapter_effect is not None
    assert report.max_abs_logit_difference < 1e-4 * report.max_adapter_effect


def test_error_for_experts_of_another_size(tmp_path: Path) -> None:
    base = family("qwen3_moe").save(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    other = tiny.save_model(tmp_path / "other", family("mixtral").config())
    with pytest.raises(AdapterError, match=r"not those of model\.layers\.0\.mlp\.experts\.gate_up_proj"):
        plan_updates(other, adapter, header(other))
