"""An exported model loads in other libraries, computes the same, and is what was registered."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from loraline import storage
from loraline.artifacts.verdict import Verdict
from loraline.errors import ConfigurationError, ValidationError
from loraline.export.export import export
from loraline.identity.digests import digest_file
from loraline.registry.files import FileList, StoredFile
from loraline.registry.tags import DIGEST_TAG
from pipelines.cli.app import app
from tests import tiny
from tests.loraline.export.conftest import edit

IDS = torch.arange(5, 25)[None]


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def flip(path: Path) -> None:
    """Change the last bit of a file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_merged_model_of_a_run(run: Path, tmp_path: Path) -> None:
    done = export(str(run), tmp_path / "out", "safetensors")
    assert "merge report" in done.verified
    assert done.size == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    assert not {"parity.json", "loraline.json"} & {file.name for file in (tmp_path / "out").iterdir()}
    ours, theirs = (AutoModelForCausalLM.from_pretrained(folder) for folder in (run / "merged", tmp_path / "out"))
    assert torch.equal(logits(ours), logits(theirs))
    messages = [{"role": "user", "content": "hi"}]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text.endswith("### Instruction:\nhi\n\n### Response:\n")


def test_the_adapter_of_a_run(run: Path, tmp_path: Path) -> None:
    done = export(str(run), tmp_path / "out", "adapter")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
    }
    assert "merge report" in done.verified
    assert f"its base model is owner/model at revision {'a' * 40} on the Hugging Face Hub" in done.notes
    assert any("PeftModel.from_pretrained" in note for note in done.notes)
    assert any("--chat-template chat_template.jinja" in note for note in done.notes)
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(run / "base"), tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(run / "merged")
    assert torch.allclose(logits(adapted), logits(merged), atol=1e-4)


def test_peft_finds_the_base_by_the_name_in_the_adapter(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "adapter", tmp_path / "adapter")
    edit(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path=str(run / "base"), revision=None)
    done = export(str(tmp_path / "adapter"), tmp_path / "out", "adapter")
    assert any("cannot be downloaded by that name" in note for note in done.notes)
    assert done.verified == ""
    assert torch.isfinite(logits(AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out"))).all()


@pytest.mark.parametrize(("verdict", "notes"), [("reject", ["the gate rejected this model: no gain"]), ("promote", [])])
def test_a_gates_rejection_is_in_the_notes(run: Path, tmp_path: Path, verdict: str, notes: list[str]) -> None:
    shutil.copytree(run, tmp_path / "run")
    figures = {
        "gain": 0.0,
        "min_gain": 0.0,
        "examples": 40,
        "lower": 0.0,
        "upper": 0.0,
        "confidence": 0.95,
        "evaluated_as": None,
        "not_measured": [],
    }
    stated = {"verdict": verdict, "reasons": ["no gain"], "metric": "loss", "p_value": 1.0, **figures}
    Verdict.model_validate(stated).save(tmp_path / "run" / "evidence")
    done = export(str(tmp_path / "run"), tmp_path / "out", "adapter")
    assert [note for note in done.notes if note.startswith("the gate")] == notes


@pytest.mark.parametrize(("kind", "file"), [("safetensors", "merged/model"), ("adapter", "adapter/adapter_model")])
def test_a_run_that_was_altered_is_refused(run: Path, tmp_path: Path, kind: str, file: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    flip(tmp_path / "run" / f"{file}.safetensors")
    with pytest.raises(ValidationError, match="was altered after the merge"):
        export(str(tmp_path / "run"), tmp_path / "out", kind)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_existing_files_are_not_overwritten(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(str(run), tmp_path / "out", "adapter")
    with pytest.raises(ConfigurationError, match="exists already"):
        export(str(run), tmp_path / "out", "safetensors")


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        ("nowhere", "safetensors", "the folder does not exist. `loraline run` trains a model into runs/latest"),
        ("base", "adapter", "no adapter_config.json in it"),
        ("adapter", "safetensors", "no config.json in it"),
    ],
)
def test_a_missing_model_or_part(run: Path, tmp_path: Path, model: str, kind: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        export(str(run / model), tmp_path / "out", kind)


@pytest.fixture
def registered(run: Path, tmp_path: Path, s3: dict[str, str], mlflow_store: str) -> str:
    """The run's model in a real store and a real registry; its address."""
    root = tmp_path / "registered"
    for part in ("adapter", "merged"):
        shutil.copytree(run / part, root / part)
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    listed = FileList(
        files={name: StoredFile(size=path.stat().st_size, sha256=digest_file(path)) for name, path in files.items()}
    )
    (root / "files.json").write_text(listed.model_dump_json())
    url = f"s3://exports/{tmp_path.name}/models/dates/{listed.digest}"
    storage.upload(root, url)
    client = MlflowClient(mlflow_store)
    client.create_registered_model("dates")
    version = client.create_model_version("dates", url, tags={DIGEST_TAG: listed.digest})
    client.set_registered_model_alias("dates", "champion", version.version)
    return url


def test_a_registered_model_by_alias_version_and_url(registered: str, run: Path, tmp_path: Path) -> None:
    for number, name in enumerate(["models:/dates@champion", "models:/dates/1", registered, f"{registered}/merged"]):
        done = export(name, tmp_path / f"out{number}", "safetensors")
        assert done.verified.startswith("files.json of ")
        assert (done.path / "model.safetensors").read_bytes() == (run / "merged/model.safetensors").read_bytes()
    adapter = export("models:/dates@champion", tmp_path / "adapter", "adapter")
    assert (adapter.path / "chat_template.jinja").read_bytes() == (run / "merged/chat_template.jinja").read_bytes()
    storage.download(registered, tmp_path / "back")
    assert "its files.json" in export(str(tmp_path / "back"), tmp_path / "again", "safetensors").verified


def test_a_registered_model_that_was_altered_is_refused(registered: str, run: Path, tmp_path: Path) -> None:
    altered = tmp_path / "model.safetensors"
    shutil.copy(run / "merged/model.safetensors", altered)
    flip(altered)
    storage.upload(altered, f"{registered}/merged/model.safetensors")
    for name in ("models:/dates@champion", registered):
        with pytest.raises(ValidationError, match=r"merged/model\.safetensors was altered"):
            export(name, tmp_path / "out", "safetensors")
    export("models:/dates/1", tmp_path / "adapter", "adapter")  # whose own bytes are right


def test_an_altered_list_of_files_is_refused(registered: str, run: Path, tmp_path: Path) -> None:
    altered, path = tmp_path / "model.safetensors", tmp_path / "registered" / "files.json"
    shutil.copy(run / "merged/model.safetensors", altered)
    flip(altered)
    content = json.loads(path.read_text())
    content["files"]["merged/model.safetensors"]["sha256"] = digest_file(altered)
    path.write_text(json.dumps(content))
    storage.upload(altered, f"{registered}/merged/model.safetensors")
    storage.upload(path, f"{registered}/files.json")
    for name in ("models:/dates@champion", registered):
        with pytest.raises(ValidationError, match=r"files\.json at .* was altered"):
            export(name, tmp_path / "out", "safetensors")


def test_any_model_in_the_store(s3: dict[str, str], run: Path, tmp_path: Path) -> None:
    url = f"s3://exports/{tmp_path.name}/base"
    storage.upload(tiny.save_model(tmp_path / "base"), url)
    assert export(url, tmp_path / "out", "safetensors").verified == ""
    with pytest.raises(ConfigurationError, match=r"it holds no adapter_config\.json"):
        export(url, tmp_path / "adapter", "adapter")


def test_the_command(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(run), str(tmp_path / "out"), "--format", "adapter"])
    assert done.exit_code == 0, done.output
    assert "verified by the merge report" in done.output
    assert "PeftModel.from_pretrained" in done.output
    again = CliRunner().invoke(app, ["export", str(run), str(tmp_path / "out"), "--format", "adapter"])
    assert again.exit_code == 2
    assert "exists already" in again.output
