"""The object store's client against a real server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from loraline import storage
from loraline.errors import ConfigurationError, StorageAwayError, StorageError


def test_a_folder_comes_back_as_it_went(s3: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "a.txt").write_text("a")
    (source / "deep" / "er" / "b.bin").write_bytes(bytes(range(256)) * 1000)
    storage.upload(source, "s3://tests/folder")
    storage.upload(source / "a.txt", "s3://tests/folder-of-another-name/a.txt")

    storage.download("s3://tests/folder", tmp_path / "back")

    def files(root: Path) -> dict[str, bytes]:
        return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}

    assert files(tmp_path / "back") == files(source)


def test_an_etag_changes_with_the_content(s3: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("one")
    storage.upload(file, "s3://tests/etag/f")
    (before,) = storage.list_objects("s3://tests/etag/f")
    file.write_text("two")
    storage.upload(file, "s3://tests/etag/f")
    (after,) = storage.list_objects("s3://tests/etag/f")
    assert before.etag
    assert before.etag != after.etag


def test_what_is_not_there_is_said(s3: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no object at s3://tests/absent"):
        storage.download("s3://tests/absent", tmp_path)


def test_a_missing_bucket_is_an_error_or_empty(s3: dict[str, str]) -> None:
    with pytest.raises(StorageError, match="listing s3://no-such-bucket/x failed"):
        storage.list_objects("s3://no-such-bucket/x")
    assert storage.list_objects("s3://no-such-bucket/x", missing_bucket_ok=True) == []


def test_a_wrong_key_is_refused(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match="listing s3://tests/x failed"):
        storage.list_objects("s3://tests/x")


def test_missing_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"):
        storage.connect()


@pytest.mark.parametrize("address", ["bucket/key", "http://bucket/key", "s3:///key"])
def test_what_is_no_address_is_quoted(address: str) -> None:
    with pytest.raises(ConfigurationError, match=address):
        storage.S3Url.parse(address)


def test_an_object_is_read_in_pieces_and_goes_on_where_a_connection_broke(
    s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "weights").write_bytes(content)
    storage.upload(tmp_path / "weights", "s3://pieces/weights")
    pieces = list(storage.read("s3://pieces/weights"))
    assert b"".join(pieces) == content
    assert len(pieces) == 3

    original, breaks = urllib3.HTTPResponse.stream, [2]

    def stream(self: urllib3.HTTPResponse, *args: int) -> Iterator[bytes]:
        if breaks[0]:
            breaks[0] -= 1
            if breaks[0] < 2:
                yield next(original(self, *args))
            raise urllib3.exceptions.ProtocolError("connection broken")
        yield from original(self, *args)

    monkeypatch.setattr(urllib3.HTTPResponse, "stream", stream)
    assert b"".join(storage.read("s3://pieces/weights")) == content
    assert breaks == [0]
    breaks[0] = 100
    with pytest.raises(StorageError, match="reading s3://pieces/weights failed"):
        list(storage.read("s3://pieces/weights"))


def test_an_object_that_is_not_there_cannot_be_read(s3: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    storage.upload(tmp_path / "x", "s3://pieces/x")
    with pytest.raises(StorageError, match="reading s3://pieces/nothing failed"):
        list(storage.read("s3://pieces/nothing"))


def test_a_store_that_is_away_is_asked_again_and_one_that_refuses_is_not(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("urllib3.Retry.sleep", lambda *arguments: None)  # no waiting between attempts
    monkeypatch.setattr(storage, "_SECONDS_BETWEEN_TRIES", 0.0)
    asked = 0

    def list_at_the_third_try() -> list[storage.StoredObject]:
        nonlocal asked
        asked += 1
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3["AWS_ENDPOINT_URL"] if asked == 3 else "http://127.0.0.1:9")
        return storage.list_objects("s3://no-such-bucket/x", missing_bucket_ok=True)

    assert storage.when_it_answers(list_at_the_third_try) == []
    assert asked == 3
    assert capsys.readouterr().out.count("waiting for the object store") == 1

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match="listing s3://tests/x failed") as refused:
        storage.when_it_answers(lambda: storage.list_objects("s3://tests/x"))
    assert not isinstance(refused.value, StorageAwayError)
