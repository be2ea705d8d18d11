"""The champion's evaluation: a tiny model in a real object store, as register_model leaves one."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.evaluate_model.component import evaluate_model
from loraline import storage
from loraline.artifacts.base_model import ModelManifest
from loraline.artifacts.evaluation import ChampionPin, ChampionReport, EvaluationReport
from loraline.errors import ModelLoadingError, ValidationError
from loraline.evaluation.config import EvaluateConfig
from loraline.evaluation.evaluate import evaluate
from loraline.evaluation.evaluate_champion import evaluate_champion
from loraline.identity.digests import digest_file
from loraline.identity.model_digests import merged_digest
from loraline.models.config import ModelConfig
from loraline.models.folder import write_manifest
from loraline.registry.files import FILE_LIST, FileList, StoredFile
from loraline.settings import EvaluateSettings
from tests import tiny
from tests.loraline.run_reports import merge_report

CONFIG = EvaluateConfig(max_new_tokens=6, batch_size=3)
VERDICT = {
    "verdict": "promote",
    "reasons": [],
    "not_measured": [],
    "metric": "token_f1",
    "gain": 0.5,
    "min_gain": 0.0,
    "examples": 100,
    "lower": 0.4,
    "upper": 0.6,
    "evaluated_as": None,
    "margin_spent": 0.03,
    "confidence": 0.95,
    "p_value": 0.001,
}
HELD = ModelConfig(source="", compute_dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny.save_model(tmp_path_factory.mktemp("model"))
    write_manifest(made, ModelManifest(compute_dtype="float32", device="cpu"))
    return made


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_dataset(tmp_path_factory.mktemp("data"), [tiny.chat("q" * i, "a" * i) for i in range(1, 6)])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A registered model's files; its merged model is another than its adapter on the base, to tell them apart."""
    folder = tmp_path_factory.mktemp("champion")
    tiny.save_adapter(folder / "adapter", model)
    tiny.save_model(folder / "merged", tiny.llama(num_hidden_layers=1))
    merge_report({}, "a" * 64, merged_digest(folder / "merged")).save(folder / "merged")
    (folder / "evidence").mkdir()
    (folder / "evidence/evidence.json").write_text('{"version": 2}')
    return folder


@pytest.fixture
def champion(s3: dict[str, str], files: Path, tmp_path: Path) -> ChampionPin:
    """The champion as the run's settings name it, its files in the store."""
    return store(files, f"s3://loraline/models/dates/{tmp_path.name}")


def store(files: Path, url: str) -> ChampionPin:
    paths = {path.relative_to(files).as_posix(): path for path in sorted(files.rglob("*")) if path.is_file()}
    listed = {name: StoredFile(size=path.stat().st_size, sha256=digest_file(path)) for name, path in paths.items()}
    storage.upload(files, url)
    storage.upload(write(files.parent / FILE_LIST, FileList(files=listed).model_dump_json()), f"{url}/{FILE_LIST}")
    digest = FileList(files=listed).digest
    return ChampionPin(model_name="dates", version="3", url=url, content_digest=digest)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_its_merged_model_is_scored_as_the_runs_own(
    tmp_path: Path, dataset: Path, files: Path, champion: ChampionPin
) -> None:
    alone = evaluate(CONFIG, files / "merged", dataset, tmp_path / "alone", held=HELD)
    report = evaluate_champion(CONFIG, HELD, dataset, tmp_path / "out", champion)
    assert report is not None
    assert (tmp_path / "out/examples.jsonl").read_bytes() == (tmp_path / "alone/examples.jsonl").read_bytes()
    assert report.model_dump(exclude={"seconds"}) == alone.model_dump(exclude={"seconds"})
    assert report.weights.merged_digest == merged_digest(files / "merged")
    assert ChampionReport.load(tmp_path / "out") == ChampionReport(champion=champion, evaluation=report)
    assert not (tmp_path / "out" / EvaluationReport.FILE).exists()


@pytest.mark.parametrize("release", ["this", "another"])
def test_what_the_champion_lost_to_the_best_before_it_is_read_from_its_verdict(
    tmp_path: Path, dataset: Path, s3: dict[str, str], files: Path, release: str
) -> None:
    theirs = shutil.copytree(files, tmp_path / "theirs")
    verdict = VERDICT if release == "this" else {"verdict": "promote"}
    write(theirs / "evidence/verdict.json", json.dumps(verdict))
    champion = store(theirs, f"s3://loraline/models/dates/{tmp_path.name}")
    evaluate_champion(CONFIG, HELD, dataset, tmp_path / "out", champion)
    spent = ChampionReport.load(tmp_path / "out").margin_spent
    assert spent == ({"token_f1": 0.03} if release == "this" else {})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda url: storage.remove(f"{url}/merged/model.safetensors"),
            "merged/model.safetensors is missing",
        ),
        (lambda url: storage.remove(f"{url}/evidence"), "evidence/evidence.json is missing"),
        (storage.remove, "the files were deleted"),
    ],
)
def test_files_that_are_gone_are_named_with_the_way_out(
    tmp_path: Path, dataset: Path, champion: ChampionPin, spoil: Any, reason: str
) -> None:
    spoil(champion.url)
    with pytest.raises(ValidationError, match=f"version 3 of dates .*{reason}.*loraline rollback dates"):
        evaluate_champion(CONFIG, HELD, dataset, tmp_path / "out", champion)
    assert not (tmp_path / "out" / ChampionReport.FILE).exists()


def test_a_file_that_was_altered_is_refused(tmp_path: Path, dataset: Path, champion: ChampionPin) -> None:
    name = "merged/config.json"
    storage.upload(write(tmp_path / "other.json", "{}"), f"{champion.url}/{name}")
    with pytest.raises(ValidationError, match=f"{name} was altered"):
        evaluate_champion(CONFIG, HELD, dataset, tmp_path / "out", champion)


def test_a_list_of_files_that_was_altered_is_refused(tmp_path: Path, dataset: Path, champion: ChampionPin) -> None:
    altered = champion.model_copy(update={"content_digest": "0" * 64})
    with pytest.raises(ValidationError, match=r"files\.json at .* was altered"):
        evaluate_champion(CONFIG, HELD, dataset, tmp_path / "out", altered)


def test_a_champion_brings_no_trust_along(tmp_path: Path, dataset: Path, s3: dict[str, str], files: Path) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(files / "evidence", theirs / "evidence")
    tiny.save_model(theirs / "merged")
    settings = json.loads((theirs / "merged/config.json").read_text())
    settings |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    write(theirs / "merged/config.json", json.dumps(settings))
    write(theirs / "merged/theirs.py", f"open({str(tmp_path / 'ran')!r}, 'w')")
    write_manifest(theirs / "merged", ModelManifest(trust_remote_code=True))
    champion = store(theirs, f"s3://loraline/models/dates/{tmp_path.name}")
    with pytest.raises(ModelLoadingError, match="trust_remote_code=true"):
        evaluate_champion(CONFIG, HELD, dataset, tmp_path / "out", champion)
    assert not (tmp_path / "ran").exists()


def run_step(tmp_path: Path, model: Path | None, dataset: Path, **settings: Any) -> dict[str, float]:
    """The wrapper as KFP calls it; gives the figures that KFP shows."""
    shown: dict[str, float] = {}
    evaluate_model.python_func(
        EvaluateSettings(
            code="", config=CONFIG, policy=None, tasks_digest="", model=HELD, **settings
        ).model_dump_json(),
        model=SimpleNamespace(path=str(model)) if model else None,
        dataset=SimpleNamespace(path=str(dataset)),
        evaluation=SimpleNamespace(path=str(tmp_path / "evaluation")),
        metrics=SimpleNamespace(path=str(tmp_path / "metrics"), log_metric=shown.__setitem__),
    )
    return shown


def test_without_a_champion_nothing_is_computed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_step(tmp_path, None, tmp_path / "no-data", subject="champion") == {}
    assert ChampionReport.load(tmp_path / "evaluation") == ChampionReport(champion=None, evaluation=None)
    assert (tmp_path / "metrics").is_file()  # without it kfp.local would run the step each time
    assert "evaluate champion ..." in capsys.readouterr().out


def test_the_wrapper_scores_what_its_settings_name(
    tmp_path: Path, model: Path, dataset: Path, champion: ChampionPin, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, compared = tmp_path / "plain", tmp_path / "compared"
    plain.mkdir()
    compared.mkdir()
    base = run_step(plain, model, dataset, subject="base")
    against = run_step(compared, None, dataset, subject="champion", champion=champion)
    assert "evaluate base ..." in capsys.readouterr().out
    assert base["loss"] == EvaluationReport.load(plain / "evaluation").loss
    evaluation = ChampionReport.load(compared / "evaluation").evaluation
    assert evaluation is not None
    assert against["loss"] == evaluation.loss != base["loss"]
