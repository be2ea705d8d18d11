"""What `loraline verify` says of model versions that are right, incomplete, altered, or mixed up."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from loraline import storage
from loraline.artifacts.registration import Registration
from loraline.errors import ConfigurationError, StorageError, ValidationError
from loraline.registry.files import FileList, StoredFile
from loraline.registry.promote import promote
from loraline.registry.verify import Verification, verify
from pipelines.cli.app import app
from tests.loraline.registered import GatedRun, register_gated

pytestmark = pytest.mark.usefixtures("s3", "mlflow_store")

NAMES = ["list of files", "files", "evidence", "verdict", "evaluated files", "base", "tags", "bytes"]


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """Of the test's own: a folder is named after its content, which is the same in all tests."""
    return f"verify-{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"


@pytest.fixture
def one(promoted: GatedRun, tmp_path: Path, bucket: str) -> Registration:
    """Version 1 of dates, right in every part."""
    return register_gated(promoted, tmp_path / "one", bucket)


@pytest.fixture
def two(one: Registration, make_gated_run: Callable[[bytes], GatedRun], tmp_path: Path, bucket: str) -> Registration:
    """Version 2, of other weights."""
    return register_gated(make_gated_run(b"other weights"), tmp_path / "two", bucket)


def failed(model: str = "models:/dates/1") -> dict[str, str]:
    """Name and detail of each check that does not pass."""
    return {check.name: check.detail for check in checked(model).checks if not check.passed}


def checked(model: str) -> Verification:
    return verify(model, lambda done, total: None)


def write(url: str, content: bytes, folder: Path) -> None:
    (folder / "written").write_bytes(content)
    storage.upload(folder / "written", url)


def read(url: str) -> bytes:
    return b"".join(storage.read(url))


def test_a_version_that_is_right_passes_every_check(one: Registration) -> None:
    promote("dates")
    seen: list[tuple[int, int]] = []
    found = verify("models:/dates@champion", lambda done, total: seen.append((done, total)))
    assert found.passed
    assert [check.name for check in found.checks] == NAMES
    assert (found.version, found.aliases, found.url) == ("1", ["challenger", "champion"], one.url)
    size = sum(
        item.size for item in storage.list_objects(one.url) if not item.key.endswith(("files.json", "registered.json"))
    )
    assert seen[-1] == (size, size), "every byte was read"


def test_files_that_are_altered_are_named(one: Registration, tmp_path: Path) -> None:
    for name in ("adapter/adapter_model.safetensors", "README.md", "evidence/report.html"):
        was = read(f"{one.url}/{name}")
        write(f"{one.url}/{name}", was.swapcase(), tmp_path)
        odd = failed()
        assert odd.keys() == {"bytes"}
        assert odd["bytes"].startswith(f"{name} has the digest ")
        write(f"{one.url}/{name}", was, tmp_path)
    assert not failed()


@pytest.mark.parametrize("page", ["README.md", "evidence/report.html"])
def test_a_page_that_is_replaced_together_with_its_entry_in_the_list_is_named(
    one: Registration, tmp_path: Path, page: str
) -> None:
    write(f"{one.url}/{page}", b"a better story", tmp_path)
    listed = FileList.model_validate_json(read(f"{one.url}/files.json"))
    entry = StoredFile(size=len(b"a better story"), sha256=hashlib.sha256(b"a better story").hexdigest())
    forged = FileList(files={**listed.files, page: entry})
    assert forged.digest == listed.digest == one.digest
    write(f"{one.url}/files.json", forged.model_dump_json().encode(), tmp_path)
    problems = failed()
    assert problems.keys() == {"list of files", "tags"}
    assert "the tag pages_digest is " in problems["list of files"]
    with pytest.raises(ValidationError, match="list of files: the tag pages_digest is"):
        promote("dates")


def test_a_verdict_file_that_cannot_be_read_is_named(one: Registration, tmp_path: Path) -> None:
    write(f"{one.url}/evidence/verdict.json", b"promote", tmp_path)
    assert "verdict.json cannot be read as Verdict" in failed()["evidence"]


def test_files_that_are_missing_or_strange_are_named(one: Registration, tmp_path: Path) -> None:
    storage.remove(f"{one.url}/README.md")
    write(f"{one.url}/merged/pytorch_model.bin", b"pickle", tmp_path)
    assert failed() == {
        "files": "README.md is missing; merged/pytorch_model.bin is there and was not registered",
    }


def test_evidence_of_another_version_is_found_out(one: Registration, two: Registration, tmp_path: Path) -> None:
    for name in ("evidence.json", "verdict.json", "report.html"):
        write(f"{one.url}/evidence/{name}", read(f"{two.url}/evidence/{name}"), tmp_path)
    odd = failed()
    assert odd.keys() >= {"bytes", "evaluated files"}
    for what in ("the model that it evaluated is ", "the adapter that it merged is ", "the merged model that it "):
        assert what in odd["evaluated files"]
    with pytest.raises(
        ValidationError, match=r"no proof that stands: .*evaluated files: the model that it evaluated is \w+, and"
    ):
        promote("dates", "1")


def test_swapped_evidence_is_found_out_when_the_list_is_rewritten_to_fit(
    one: Registration, two: Registration, mlflow_store: str, tmp_path: Path, bucket: str
) -> None:
    listed, other = (FileList.model_validate_json(read(f"{model.url}/files.json")) for model in (one, two))
    forged = FileList(files={**listed.files, **{k: v for k, v in other.files.items() if k.startswith("evidence/")}})
    client, url = MlflowClient(mlflow_store), f"s3://{bucket}/models/dates/{forged.digest}"
    for name in forged.files:
        write(f"{url}/{name}", read(f"{(two if name.startswith('evidence/') else one).url}/{name}"), tmp_path)
    write(f"{url}/files.json", forged.model_dump_json().encode(), tmp_path)
    tags = {**two.tags, "content_digest": forged.digest, "pages_digest": forged.pages_digest}
    tags |= {"adapter_digest": forged.adapter_digest, "merged_digest": forged.merged_digest}
    client.create_model_version("dates", url, tags=tags)
    assert failed("models:/dates/3").keys() == {"evaluated files"}
    with pytest.raises(ValidationError, match="evaluated files"):
        promote("dates", "3")


def forge_evidence(one: Registration, document: dict[str, Any], folder: Path) -> None:
    """Put other evidence into version 1, and change its list so that it fits."""
    content = json.dumps(document).encode()
    write(f"{one.url}/evidence/evidence.json", content, folder)
    listed = FileList.model_validate_json(read(f"{one.url}/files.json"))
    entry = StoredFile(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    forged = FileList(files={**listed.files, "evidence/evidence.json": entry})
    write(f"{one.url}/files.json", forged.model_dump_json().encode(), folder)


FORGED: list[tuple[Callable[[dict[str, Any]], object], str, str]] = [
    (lambda it: it.update(merge=None), "verdict", "computed again, the findings give reject"),
    (lambda it: it.update(champion=None), "verdict", "computed again, the findings give reject"),
    (lambda it: it["examples"].pop(), "verdict", "computed again, the findings give reject"),
    (lambda it: it["checks"].pop(), "verdict", "computed again, its checks are different"),
    (
        lambda it: it["verdict"].update(verdict="reject"),
        "evidence",
        "verdict.json has another verdict than evid",
    ),
    (lambda it: it["tuned"].update(exact_match=1.0), "tags", "tuned_exact_match is '0.9', and the evidence says '1'"),
    (lambda it: it["training"].update(base_digest="0" * 64), "base", "trained on the base 000000000000, and merged"),
    (
        lambda it: it["merge"].update(merged_digest=""),
        "evaluated files",
        "does not name the merged model that it compared",
    ),
    (
        lambda it: it["tuned"]["weights"].update(merged_digest="0" * 64),
        "evaluated files",
        "evaluated is 000000000000, and these",
    ),
    (lambda it: it.update(version=99), "evidence", "evidence of version 99"),
    (lambda it: it["merge"].pop("merged_digest"), "evidence", "merge.merged_digest: Field required"),
]


def test_evidence_that_is_incomplete_or_altered_is_named(one: Registration, tmp_path: Path) -> None:
    right = read(f"{one.url}/evidence/evidence.json")
    for change, check, said in FORGED:
        document = json.loads(right)
        change(document)
        forge_evidence(one, document, tmp_path)
        odd = failed()
        assert said in odd[check]
        assert "list of files" in odd, "its digest is another"


def test_without_evidence_what_rests_on_it_fails_too(one: Registration) -> None:
    storage.remove(f"{one.url}/evidence/evidence.json")
    odd = failed()
    assert odd["evidence"] == "evidence/evidence.json is missing"
    assert odd.keys() == {"files", "evidence", "verdict", "evaluated files", "base", "tags"}


def test_a_version_that_is_not_ours_has_no_list(mlflow_store: str, one: Registration, bucket: str) -> None:
    client = MlflowClient(mlflow_store)
    client.create_model_version("dates", f"s3://{bucket}/elsewhere")
    client.create_model_version("dates", "/somewhere/here")
    assert failed("models:/dates/2").keys() == failed("models:/dates/3").keys() == {"list of files"}


def test_what_is_not_there_is_said(one: Registration) -> None:
    with pytest.raises(ConfigurationError, match=r"'dates' is not an address of the model registry"):
        checked("dates")
    with pytest.raises(StorageError, match=r"no version with the alias champion; its aliases: @challenger"):
        checked("models:/dates@champion")
    with pytest.raises(StorageError, match="no registered model 'times'"):
        checked("models:/times/1")
    with pytest.raises(StorageError, match="reading version 9 of dates"):
        checked("models:/dates/9")


def test_the_command_prints_a_table_and_its_status_tells(one: Registration) -> None:
    runner = CliRunner(env={"COLUMNS": "200"})
    right = runner.invoke(app, ["verify", "models:/dates/1"])
    assert right.exit_code == 0, right.output
    assert "dates version 1 @challenger" in right.output
    assert right.output.count("passed") == len(NAMES)
    storage.remove(f"{one.url}/adapter/adapter_model.safetensors")
    wrong = runner.invoke(app, ["verify", "models:/dates/1"])
    assert wrong.exit_code == 1
    assert "FAILED   adapter/adapter_model.safetensors is missing" in wrong.output
    assert "1 of 8 checks failed" in wrong.output
    told = json.loads(runner.invoke(app, ["verify", "models:/dates/1", "--json"]).stdout)
    assert [check["name"] for check in told["checks"] if check["outcome"] != "passed"] == ["files"]
    assert runner.invoke(app, ["verify", "models:/dates/7"]).exit_code == 2
