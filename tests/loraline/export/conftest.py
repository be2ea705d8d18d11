"""The outputs of a small real run: a base, an adapter on it, and the merged model."""

import json
from pathlib import Path

import pytest

from loraline.artifacts.base_model import ModelManifest
from loraline.merging.config import MergeConfig
from loraline.merging.merge import merge
from loraline.models.folder import write_manifest
from tests import tiny

HUB = {"base_model_name_or_path": "owner/model", "revision": "a" * 40}


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as runs/latest: merged/ and adapter/, and the base beside them. The base has no chat template."""
    folder = tmp_path_factory.mktemp("run")
    base = tiny.save_model(folder / "base", chat_template=None)
    write_manifest(base, ModelManifest(digest="b" * 64))
    adapter = tiny.save_adapter(folder / "adapter", base, base_digest="b" * 64, target_modules=["q_proj", "v_proj"])
    (adapter / "README.md").unlink()
    edit(adapter / "adapter_config.json", **HUB)
    dataset = tiny.save_dataset(folder / "data", [tiny.chat("a question", "an answer")])
    merge(MergeConfig(generated_tokens=1), base, adapter, dataset, folder / "merged")
    return folder


def edit(path: Path, **values: object) -> None:
    """Change values of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
