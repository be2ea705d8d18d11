"""The scratch model: made once, the same to the bit, with a tokenizer that takes any text."""

import shutil
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest

from loraline.errors import ModelLoadingError
from loraline.identity import digests
from loraline.models.folder import load_tokenizer
from loraline.models.load import load_model
from loraline.quickstart import dates, scratch_model, scratch_pretraining
from tests.loraline.tiny_models import tokenizer


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, and a pre-training of three steps on few sentences."""
    monkeypatch.setenv("LORALINE_CACHE", str(tmp_path))
    monkeypatch.setattr(scratch_pretraining, "_STEPS", 3)
    monkeypatch.setattr(dates, "_SENTENCES", 500)
    return tmp_path


@pytest.mark.parametrize(
    "text", ["the first of May", " two  spaces\n\nand\tlines ", "caf\u00e9 \u6f22\u5b57 \U0001f642 \x00", "3.14-15/92"]
)
def test_the_tokenizer_encodes_any_text(text: str) -> None:
    made = tokenizer()
    ids = made(text, add_special_tokens=False)["input_ids"]
    assert made.decode(ids) == text
    assert max(ids) < len(made)


def test_the_chat_template_ends_each_answer() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    made = tokenizer()
    assert made.apply_chat_template(messages, tokenize=False) == "<user>a<assistant>b</s>"
    prompt = made.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "<user>a<assistant>"


def test_it_is_trained_once_and_is_deterministic(quick: Path) -> None:
    folder = scratch_model.train_or_load("dates")
    assert folder == scratch_model.train_or_load("dates")
    assert load_model(folder).num_parameters() < 1e6
    assert load_tokenizer(folder).eos_token == "</s>"
    again = quick / "again"
    scratch_pretraining.pretrain(again)
    assert digests.digest_folder(again) == digests.digest_folder(folder)


def test_tokenizer_and_config_are_saved_as_with_the_model(quick: Path) -> None:
    described = quick / "described"
    scratch_model.save_tokenizer_and_config(described)
    made = scratch_model.train_or_load("dates")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (described / name).read_bytes() == (made / name).read_bytes()
    assert not list(described.glob("*.safetensors"))


def test_two_processes_may_train_it_at_once(quick: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        first, second = pool.map(_make_quickly, [str(quick)] * 2)
    assert first == second
    assert [path.name for path in (quick / "scratch").iterdir()] == [Path(first).name]


def _make_quickly(_: str) -> str:
    scratch_pretraining._STEPS = 1
    return str(scratch_model.train_or_load("dates"))


def test_a_read_only_cache_is_an_error_that_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LORALINE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelLoadingError, match="set LORALINE_CACHE"):
        scratch_model.train_or_load("dates")


@pytest.mark.parametrize("missing", ["torch", "transformers", "tokenizers"])
def test_the_digest_does_not_depend_on_installed_libraries(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe is resolved in an image without torch; the model is made in one with torch."""
    digest, folder = scratch_model.digest("dates"), scratch_model.cached_folder("dates")
    version = metadata.version

    def absent(library: str) -> str:
        if library == missing:
            raise metadata.PackageNotFoundError(library)
        return version(library)

    monkeypatch.setattr(metadata, "version", absent)
    assert scratch_model.digest("dates") == digest
    assert scratch_model.cached_folder("dates") != folder, "other libraries may make other weights"


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("_PEAK_LEARNING_RATE, _WARMUP_STEPS = 3e-3, 30", "_PEAK_LEARNING_RATE, _WARMUP_STEPS = 1e-3, 30", True),
        ('"pre-training steps"', '"steps"', False),
        ("_SEED = 7\n", "_SEED = 7  # a comment\n", False),
    ],
)
def test_the_digest_covers_the_definition_of_the_model_only(
    before: str, after: str, changes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = scratch_model.digest("dates")
    copy = shutil.copytree(Path(scratch_model.__file__).parent, tmp_path / "quickstart")
    module = copy / "scratch_pretraining.py"
    assert before in module.read_text()
    module.write_text(module.read_text().replace(before, after))
    monkeypatch.setattr(scratch_model, "__file__", str(copy / "scratch_model.py"))
    assert (scratch_model.digest("dates") != digest) == changes
