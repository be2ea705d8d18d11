"""The digests that tie evidence to a model are the same from a folder and from a list of its files."""

import hashlib
from pathlib import Path

from loraline.identity import model_digests
from loraline.registry.files import FileList, StoredFile


def make(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def listed(root: Path) -> FileList:
    """The list that register_model makes of these folders."""
    files = {
        path.relative_to(root).as_posix(): StoredFile(
            size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in root.rglob("*")
        if path.is_file()
    }
    return FileList(files=files)


def test_a_folder_and_its_list_have_one_digest(tmp_path: Path) -> None:
    adapter = make(tmp_path / "adapter", {"adapter_config.json": b"{}", "w.safetensors": b"a", ".cache/x": b"hidden"})
    merged = make(tmp_path / "merged", {"config.json": b"{}", "code/modeling.py": b"pass", "model.safetensors": b"m"})
    before = model_digests.merged_digest(merged)
    assert listed(tmp_path).adapter_digest == model_digests.adapter_digest(adapter)
    assert listed(tmp_path).merged_digest == before

    make(merged, {"parity.json": b"{}", "policy.yaml": b"name: x"})
    assert model_digests.merged_digest(merged) == before, "what is written after the comparison"
    assert listed(tmp_path).merged_digest == before

    make(merged, {"code/modeling.py": b"import os"})
    assert model_digests.merged_digest(merged) != before
    assert listed(tmp_path).merged_digest == model_digests.merged_digest(merged)
