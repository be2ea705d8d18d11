"""The flat training script computes what the library's training computes, and resumes."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from examples import train_flat
from loraline.artifacts.dataset_files import EVAL_ROWS, TRAIN_ROWS
from loraline.data.rows import RowWriter
from loraline.training.checkpoint import Checkpoint, CheckpointStore
from loraline.training.config import TrainConfig
from loraline.training.train import train
from tests import tiny

# Dropout draws random numbers in every step; several micro-batches make one.
CONFIG = TrainConfig(
    rank=4,
    dropout=0.1,
    learning_rate=2e-2,
    weight_decay=0.01,
    max_length=128,
    batch_size=2,
    gradient_accumulation_steps=2,
    max_grad_norm=0.5,
    max_steps=8,
    save_steps=4,
)
SETTINGS = [f"{name}={value}" for name, value in CONFIG.model_dump(exclude_unset=True).items()]
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny base, and sixty rows of different length."""
    folder = tmp_path_factory.mktemp("flat")
    (folder / "data").mkdir()
    for name, numbers in ((TRAIN_ROWS, range(60)), (EVAL_ROWS, range(0))):
        with RowWriter(folder / "data" / name) as writer:
            for number in numbers:
                writer.write(tiny.chat(f"copy {number} " + "x" * (number % 17), f"{number} {number}"))
    return tiny.save_model(folder / "base"), folder / "data"


def run(folders: tuple[Path, Path], output: Path) -> list[float]:
    return train_flat.main([*map(str, folders), str(output), *SETTINGS])


def test_computes_what_the_library_computes(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = run(folders, tmp_path / "flat")
    printed = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    report = train(CONFIG, *folders, tmp_path / "library")

    assert len(losses) == len(printed) == 8
    assert losses[-1] < losses[0] - 0.5
    assert all(float(words[words.index("grad_norm") + 1]) > 0 for words in printed)
    assert losses == pytest.approx([point.loss for point in report.history], rel=1e-6)
    flat, library = (load_file(tmp_path / name / WEIGHTS) for name in ("flat", "library"))
    assert flat.keys() == library.keys()
    assert all(weight.any() for weight in flat.values()), "every adapter matrix was trained"
    assert all(weight.equal(library[name]) for name, weight in flat.items())


def test_resumes_to_the_same_numbers(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(folders, tmp_path / "undisturbed")
    save = CheckpointStore.save

    def save_and_stop(store: CheckpointStore, step: int, checkpoint: Checkpoint) -> None:
        save(store, step, checkpoint)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(folders, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / WEIGHTS).exists()
    capsys.readouterr()
    assert run(folders, tmp_path / "stopped") == undisturbed
    assert capsys.readouterr().out.startswith("step 5/8")
    one, two = ((tmp_path / name / WEIGHTS).read_bytes() for name in ("undisturbed", "stopped"))
    assert one == two


def test_settings_that_it_would_not_use_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train_flat.main([*map(str, folders), str(tmp_path), "early_stopping_patience=2"])
