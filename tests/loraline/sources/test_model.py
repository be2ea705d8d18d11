"""Models and datasets are pinned to their content, and fetched completely or not at all."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from loraline import storage
from loraline.errors import ConfigurationError, DatasetError, ModelLoadingError
from loraline.models.folder import load_tokenizer
from loraline.models.load import load_model
from loraline.sources.dataset import pin_dataset
from loraline.sources.model import fetch_model, fetch_tokenizer, parse_model_source, pin_model
from loraline.sources.pin import Pin
from tests.loraline.tiny_models import save_tiny_model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORALINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model", max_shard_size="100KB")


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("scratch:dates", "scratch"),
        ("s3://bucket/prefix/", "s3"),
        ("models:/dates@champion", "registry"),
        ("models:/dates/3", "registry"),
        ("meta-llama/Llama-3.2-1B", "hub"),
        ("gpt2", "hub"),
        ("/nowhere/model", "folder"),
        ("./model", "folder"),
    ],
)
def test_each_kind_of_source_is_parsed(source: str, kind: str) -> None:
    assert parse_model_source(source).kind == kind


@pytest.mark.parametrize("source", ["scratch:times", "models:/dates", "a b", "s3://", "ftp://x/y", "a/b/c"])
def test_an_invalid_source_is_an_error_that_quotes_it(source: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{source!r}"):
        parse_model_source(source)


def test_a_folder_is_fetched_without_files_that_are_not_part_of_the_model(model: Path, tmp_path: Path) -> None:
    (model / "optimizer.pt").touch()
    (model / "modeling_own.py").touch()
    (model / "consolidated.safetensors").touch()
    (model / "onnx").mkdir()
    fetch_model(str(model), "", tmp_path / "got")
    names = {path.name for path in (tmp_path / "got").iterdir()}
    assert {"config.json", "model.safetensors.index.json", "tokenizer.json", "chat_template.jinja"} <= names
    assert not names & {"optimizer.pt", "modeling_own.py", "consolidated.safetensors", "onnx"}
    assert load_model(tmp_path / "got").num_parameters() == load_model(model).num_parameters()
    fetch_model(str(model), "", tmp_path / "with code", remote_code=True)
    assert (tmp_path / "with code" / "modeling_own.py").exists()


def test_fetch_tokenizer_fetches_no_weights(model: Path, tmp_path: Path) -> None:
    fetch_tokenizer(str(model), "", tmp_path / "got")
    assert not list((tmp_path / "got").glob("*.safetensors*"))
    assert load_tokenizer(tmp_path / "got").eos_token == "</s>"


def test_all_problems_of_a_model_are_reported_at_once(model: Path, tmp_path: Path) -> None:
    shards = sorted(model.glob("*.safetensors"))
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-100])
    for name in ("config.json", "tokenizer.json"):
        (model / name).unlink()
    with pytest.raises(ModelLoadingError) as error:
        fetch_model(str(model), "", tmp_path / "got")
    for part in ("config.json is missing", f"{shards[0].name}, which the index names, is missing",
                 f"{shards[1].name} is truncated", "there is no tokenizer"):  # fmt: skip
        assert part in str(error.value)


def test_pickled_weights_are_not_accepted(model: Path, tmp_path: Path) -> None:
    for path in model.glob("*.safetensors*"):
        path.unlink()
    (model / "pytorch_model.bin").touch()
    with pytest.raises(ModelLoadingError, match=r"no safetensors weights \(\.bin .* can run code"):
        fetch_model(str(model), "", tmp_path / "got")


def test_a_pin_depends_on_the_models_files_alone(model: Path, tmp_path: Path) -> None:
    pin = pin_model(str(model))
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "notes.txt").touch()
    assert pin_model(str(copy)) == pin
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert pin_model(str(copy)).digest != pin.digest


def test_a_revision_of_a_source_without_revisions_is_an_error(model: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'main'.*has no revisions"):
        pin_model(str(model), "main")
    with pytest.raises(ConfigurationError, match=r"'main'.*has no revisions"):
        pin_dataset(str(model), "main")


def test_a_missing_folder_is_an_error() -> None:
    for fetch in (pin_model, lambda source: fetch_model(source, "", Path("never"))):
        with pytest.raises(ModelLoadingError, match="no model folder /nowhere"):
            fetch("/nowhere")


@pytest.mark.usefixtures("s3")
def test_a_model_is_fetched_from_the_object_store(model: Path, tmp_path: Path) -> None:
    storage.upload(model, "s3://models-of-tests/tiny")
    (tmp_path / "junk").touch()
    storage.upload(tmp_path / "junk", "s3://models-of-tests/tiny/optimizer.pt")
    pin = pin_model("s3://models-of-tests/tiny/")
    fetch_model("s3://models-of-tests/tiny/", "", tmp_path / "got")
    assert {path.name for path in (tmp_path / "got").iterdir()} == {path.name for path in model.iterdir()}
    storage.upload(tmp_path / "got" / "config.json", "s3://models-of-tests/tiny/merges.txt")
    assert pin_model("s3://models-of-tests/tiny").digest != pin.digest
    with pytest.raises(ModelLoadingError, match="nothing at s3://models-of-tests/none"):
        pin_model("s3://models-of-tests/none")


@pytest.mark.usefixtures("s3")
def test_a_registered_model_is_fetched_as_a_base(model: Path, tmp_path: Path, mlflow_store: str) -> None:
    storage.upload(model, "s3://models-of-tests/registered/merged")
    client = MlflowClient(mlflow_store)
    client.create_registered_model("tiny")
    version = client.create_model_version("tiny", source="s3://models-of-tests/registered").version
    client.set_registered_model_alias("tiny", "champion", version)
    pin = pin_model("models:/tiny@champion")
    assert pin.revision == str(version)
    assert pin == pin_model(f"models:/tiny/{version}")
    fetch_model("models:/tiny@champion", pin.revision, tmp_path / "got")
    assert load_model(tmp_path / "got")
    with pytest.raises(ModelLoadingError, match=f"{mlflow_store} has no models:/tiny@nobody"):
        pin_model("models:/tiny@nobody")


def test_a_registered_version_outside_the_object_store_is_refused(mlflow_store: str) -> None:
    client = MlflowClient(mlflow_store)
    client.create_registered_model("far")
    client.create_model_version("far", source="/somewhere")
    with pytest.raises(ModelLoadingError, match="source '/somewhere'; only versions that Loraline registered"):
        pin_model("models:/far/1")


def test_an_unreachable_hub_is_an_error_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for error, call in (
        (ModelLoadingError, lambda: pin_model("nobody/nothing")),
        (ModelLoadingError, lambda: fetch_model("nobody/nothing", "0" * 40, tmp_path / "got")),
        (DatasetError, lambda: pin_dataset("hf://nobody/nothing")),
    ):
        with pytest.raises(error, match=r"'nobody/nothing'.*network.*HF_TOKEN"):
            call()


def test_a_commit_is_pinned_without_a_request() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert pin_model("nobody/nothing", commit) == Pin(commit, commit)
    one, other = (pin_dataset("hf://nobody/nothing", commit, "main", split) for split in ("train", "test"))
    assert one.revision == other.revision == commit
    assert one.digest != other.digest


def test_datasets_are_pinned_to_their_content(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    file = folder / "rows.jsonl"
    file.write_text('{"text": "a"}\n')
    pins = {pin_dataset(str(folder)).digest, pin_dataset(str(file)).digest}
    file.write_text('{"text": "b"}\n')
    pins |= {pin_dataset(str(folder)).digest, pin_dataset(str(file)).digest}
    assert len(pins) == 2  # a folder of one file is that file, by name and bytes
    assert pin_dataset("builtin:dates") == pin_dataset("builtin:dates")
    with pytest.raises(DatasetError, match="no such file or folder"):
        pin_dataset(str(tmp_path / "none.jsonl"))
