"""Which weights are evaluated, and how they are held in memory."""

from pathlib import Path

import pytest

from loraline.artifacts.base_model import ModelManifest
from loraline.evaluation.weights import load_weights
from loraline.identity.model_digests import merged_digest
from loraline.merging.config import MergeConfig
from loraline.merging.merge import merge
from loraline.models.config import ModelConfig
from loraline.models.folder import read_manifest, write_manifest
from tests import tiny

HELD = ModelConfig(source="", quantization="nf4", compute_dtype="bfloat16", device="cpu", attention="eager")


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merged")
    base = tiny.save_model(folder / "base", tiny.llama(hidden_size=64, intermediate_size=128))
    merge(MergeConfig(), base, tiny.save_adapter(folder / "adapter", base), None, folder / "merged")
    return folder / "merged"


def test_a_merged_model_is_held_as_the_recipe_asks_and_not_quantized(merged: Path) -> None:
    loaded, weights = load_weights(merged, HELD)
    assert (weights.merged_digest, weights.quantization) == (merged_digest(merged), "none")
    assert (weights.compute_dtype, weights.device, weights.held) == ("bfloat16", "cpu", "bfloat16")
    assert loaded.model.config._attn_implementation == "eager"
    assert read_manifest(merged) == ModelManifest()  # the folder is an input, and stays as it was


def test_what_the_device_cannot_hold_is_quantized_and_says_so(merged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loraline.evaluation.weights.total_memory", lambda _: 1000)
    loaded, weights = load_weights(merged, HELD)
    assert weights.quantization == "nf4"
    assert weights.describe() == "merged weights in nf4, with bfloat16"
    kinds = {type(module).__name__ for module in loaded.model.modules()}
    assert "Linear4bit" in kinds
    _, unquantized = load_weights(merged, HELD.model_copy(update={"quantization": "none"}))
    assert unquantized.quantization == "none"  # there is nothing to quantize to


def test_a_base_names_no_merged_model(merged: Path) -> None:
    _, weights = load_weights(merged.parent / "base", HELD)
    assert weights.merged_digest is None
    assert weights.describe() == "base weights in bfloat16"


def test_a_model_brings_no_trust_along(merged: Path, tmp_path: Path) -> None:
    theirs = tiny.save_model(tmp_path / "theirs")
    config = theirs / "config.json"
    config.write_text(config.read_text().replace("{", '{"auto_map": {"AutoConfig": "theirs.Config"},', 1))
    (theirs / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    write_manifest(theirs, ModelManifest(trust_remote_code=True))
    load_weights(theirs, HELD)
    assert not (tmp_path / "ran").exists()
