"""The memory plan against the tensors that evaluation and parity check really allocate, at three sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from loraline.artifacts.base_model import ModelManifest
from loraline.data.chat import EncodedRow
from loraline.evaluation.config import EvaluateConfig
from loraline.evaluation.evaluation_memory import generating_item
from loraline.evaluation.example_loss import FLOAT32_POSITIONS, example_losses
from loraline.memory_plan import MemoryPlan, plan_memory
from loraline.merging.greedy import GreedyPrompts
from loraline.merging.parity import ParityModels, measure_parity
from loraline.merging.parity_inputs import MAX_TOKENS, ParityInputs
from loraline.models.folder import write_manifest
from loraline.models.live_bytes import LiveBytes
from loraline.models.load import load_model
from loraline.models.meta_model import build_meta_model
from loraline.recipe import Recipe
from loraline.training.adapter import add_adapter, save_adapter
from loraline.training.config import TrainConfig

SIZES = {
    "small": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 2, "vocab_size": 2000},
    "medium": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "vocab_size": 8000},
    "large": {"hidden_size": 384, "intermediate_size": 1056, "num_hidden_layers": 6, "vocab_size": 12000},
}
LENGTH, NEW, PROMPTS = 128, 8, 8
RELATIVE = 0.1


@pytest.fixture(params=SIZES, scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama in bfloat16."""
    made = tmp_path_factory.mktemp(request.param)
    config = LlamaConfig(**SIZES[request.param], num_attention_heads=8, num_key_value_heads=4)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(made)
    write_manifest(made, ModelManifest(source="here", device="cpu", compute_dtype="bfloat16"))
    return made


def planned(folder: Path, **settings: dict[str, Any]) -> MemoryPlan:
    sections = {
        "data": {"source": "builtin:dates"},
        "model": {"source": str(folder), "device": "cpu", "compute_dtype": "bfloat16"},
        "training": {"max_length": LENGTH},
        "evaluation": {"batch_size": PROMPTS, "max_new_tokens": NEW},
        "registry": {"model_name": "m"},
        **settings,
    }
    return plan_memory(Recipe.model_validate(sections))


def phase_bytes(plan: MemoryPlan, name: str, *without: str) -> int:
    (phase,) = [phase for phase in plan.phases if phase.name == name]
    return sum(item.size for item in phase.items if item.name not in without)


def test_scoring(folder: Path) -> None:
    model = load_model(folder)
    vocabulary = model.config.vocab_size
    rows = [EncodedRow(torch.randint(5, vocabulary, (LENGTH,)).tolist(), [True] * LENGTH) for _ in range(33)]
    with LiveBytes(*model.parameters(), *model.buffers()) as used:
        example_losses(model, rows, lambda _: None)
    inside = 4 * FLOAT32_POSITIONS * vocabulary  # log-probabilities, which exist inside of one operation
    estimate = phase_bytes(planned(folder), "evaluation", "weights")
    assert used.peak + inside == pytest.approx(estimate, rel=RELATIVE)


def test_generating(folder: Path) -> None:
    model: Any = load_model(folder)
    prompts, length = 24, 256
    ids = torch.full((prompts, length), 7)
    settings = GenerationConfig(max_new_tokens=2, min_new_tokens=2, do_sample=False, pad_token_id=2, eos_token_id=2)
    with torch.inference_mode(), LiveBytes(*model.parameters(), *model.buffers()) as used:
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    meta = build_meta_model(folder, "here", torch.bfloat16)
    estimate = generating_item(meta, EvaluateConfig(batch_size=prompts, max_new_tokens=2), length).size
    assert used.peak == pytest.approx(estimate, rel=RELATIVE)


def test_parity(folder: Path, tmp_path: Path) -> None:
    model = add_adapter(load_model(folder), TrainConfig(rank=4))
    save_adapter(model, tmp_path)
    vocabulary = model.config.vocab_size
    sequences = [torch.randint(5, vocabulary, (MAX_TOKENS,)).tolist() for _ in range(2)]
    inputs = ParityInputs(sequences, GreedyPrompts([sequences[0][:9]], 2, [2]))
    weights = sum(weight.nbytes for weight in load_model(folder).parameters())
    with LiveBytes() as used:
        measure_parity(ParityModels(folder, tmp_path, folder, "none"), inputs, lambda *_: None)
    estimate = phase_bytes(planned(folder, merge={"parity_examples": 2}), "merge")
    assert used.peak - weights == pytest.approx(estimate, rel=RELATIVE)  # the weights are mapped from their files


def test_the_worst_phase_is_named(folder: Path) -> None:
    plan = planned(folder, evaluation={"batch_size": 512, "max_new_tokens": 4000})
    assert {phase.name for phase in plan.phases} == {"training", "evaluation", "merge"}
    assert plan.worst.needed == max(phase.needed for phase in plan.phases)
