"""Results that are made once, and what a failed attempt leaves."""

from pathlib import Path

import pytest

from loraline.finetune.workspace import Workspace


def write(folder: Path) -> None:
    folder.mkdir()
    (folder / "file").write_text("content")


def fail(folder: Path) -> None:
    write(folder)
    raise ValueError(str(folder / "file"))


def test_a_result_is_made_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work")
    folder = workspace.path("kind", "identity")
    assert workspace.result(folder, write) == folder
    assert workspace.result(folder, fail) == folder
    assert folder != workspace.path("kind", "another")


def test_a_failed_attempt_leaves_the_file_that_its_message_names_until_the_next(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work")
    folder = workspace.path("kind", "identity")
    with pytest.raises(ValueError, match="file") as caught:
        workspace.result(folder, fail)
    assert Path(str(caught.value)).read_text() == "content"
    assert not folder.exists()
    workspace.result(folder, write)
    assert [path.name for path in workspace.root.iterdir()] == [folder.name]
