"""The policy goes where the merged model goes."""

import json
from pathlib import Path
from types import SimpleNamespace

from components.merge_adapter.component import merge_adapter
from loraline.merging.config import MergeConfig
from loraline.safety.policy_files import load_policy, read_policy
from tests import tiny


def test_the_merged_folder_holds_the_policy_of_its_run(tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    dataset = tiny.save_dataset(tmp_path / "dataset", [tiny.chat(f"question {i}", "answer") for i in range(2)])
    policy = load_policy("medical")
    merge_adapter.python_func(
        json.dumps(
            {"config": MergeConfig().model_dump(mode="json"), "code": "", "policy": policy.model_dump(mode="json")}
        ),
        *(SimpleNamespace(path=str(folder)) for folder in (base, adapter, dataset)),
        merged=SimpleNamespace(path=str(tmp_path / "merged")),
        parity=SimpleNamespace(path=str(tmp_path / "parity")),
    )
    assert read_policy(tmp_path / "merged") == policy
