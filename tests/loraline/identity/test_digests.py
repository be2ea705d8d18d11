"""Digests follow the bytes, also those of large files that are not read twice."""

from pathlib import Path

import pytest

from loraline.identity import digests


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORALINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_REMEMBER_FROM", 4)
    return tmp_path / "cache"


def test_a_large_file_is_read_once_until_it_changes(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"12345678")
    first = digests.digest_file(file)
    (memory,) = (cache / "digests").iterdir()
    memory.write_text("remembered")
    assert digests.digest_file(file) == "remembered"
    file.write_bytes(b"12345679")
    assert digests.digest_file(file) not in (first, "remembered")


def test_a_folder_is_its_names_and_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, order in ((one, "ab"), (other, "ba")):
        (folder / "sub").mkdir(parents=True)
        for name in order:
            (folder / "sub" / name).write_text(name)
    (other / ".hidden").touch()
    (other / "left out").touch()
    assert digests.digest_folder(one) == digests.digest_folder(other, without=frozenset({"left out"}))
    (other / "sub" / "a").rename(other / "sub" / "c")
    assert digests.digest_folder(one) != digests.digest_folder(other, without=frozenset({"left out"}))
