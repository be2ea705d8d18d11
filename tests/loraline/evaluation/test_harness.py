"""Tasks of lm-evaluation-harness on a tiny model, from local task files, against log-likelihoods computed here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from loraline import storage
from loraline.artifacts.base_model import ModelManifest
from loraline.errors import ConfigurationError, DatasetError
from loraline.evaluation.config import EvaluateConfig, check_harness, check_task_folder
from loraline.evaluation.evaluate import evaluate
from loraline.evaluation.harness import run_tasks
from loraline.evaluation.task_scores import task_scores
from loraline.evaluation.tasks import load_tasks
from loraline.models.folder import write_manifest
from loraline.models.loaded import LoadedModel
from tests import tiny

CITIES = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Latvia": "Riga", "Norway": "Oslo", "Peru": "Lima"}
ROWS = [
    {"country": country, "choices": [city, list(CITIES.values())[i - 1], "Bern"], "answer": 0}
    for i, (country, city) in enumerate(CITIES.items())
]
SHARED = """
dataset_path: json
dataset_kwargs: {data_files: {test: data/capitals.jsonl}}
test_split: test
doc_to_text: "The capital of {{country}} is"
"""
CHOICE = f"""task: capital-choice
{SHARED}
output_type: multiple_choice
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
ANSWER = f"""task: capital-answer
{SHARED}
output_type: generate_until
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: ["!"], max_gen_toks: 5}}
metric_list: [{{metric: exact_match}}]
"""
SURPRISE = f"""task: capital-surprise
{SHARED}
output_type: loglikelihood_rolling
doc_to_target: "The capital of {{{{country}}}} is {{{{choices[answer]}}}}"
metric_list: [{{metric: bits_per_byte, higher_is_better: false}}]
"""
GROUP = """group: capitals
task: [capital-choice]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of task files and their data."""
    return save_tasks(tmp_path_factory.mktemp("tasks"), ROWS)


def save_tasks(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "data").mkdir()
    (folder / "data/capitals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("choice", CHOICE), ("answer", ANSWER), ("surprise", SURPRISE), ("group", GROUP)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny.save_model(tmp_path_factory.mktemp("model"), tiny.llama(tie_word_embeddings=True))
    write_manifest(made, ModelManifest(compute_dtype="float32", device="cpu"))
    return made


def config(folder: Path | str, *tasks: str, examples: int = 0) -> EvaluateConfig:
    return EvaluateConfig(tasks=list(tasks), task_folder=str(folder), task_examples=examples, max_new_tokens=4)


def likelihood(loaded: LoadedModel, context: str, continuation: str) -> float:
    ids = loaded.tokenizer(context + continuation)["input_ids"]
    start = len(loaded.tokenizer(context)["input_ids"])
    with torch.inference_mode():
        log_probs = loaded.model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(log_probs[i - 1, ids[i]].item() for i in range(start, len(ids)))


def most_likely(loaded: LoadedModel, row: dict[str, Any]) -> int:
    context = f"The capital of {row['country']} is"
    found = [likelihood(loaded, context, f" {choice}") for choice in row["choices"]]
    return found.index(max(found))


@pytest.mark.parametrize("adapter", [None, {"target_modules": ["lm_head", "q_proj"]}])
def test_multiple_choice_is_by_log_likelihood_with_and_without_an_adapter(
    tmp_path: Path, model: Path, adapter: dict[str, Any] | None
) -> None:
    path = None if adapter is None else tiny.save_adapter(tmp_path / "adapter", model, **adapter)
    loaded = LoadedModel.load(model, path)
    right = [True, False, True, True, False, True]
    rows = [
        {**row, "answer": (most_likely(loaded, row) + (not is_right)) % 3}
        for row, is_right in zip(ROWS, right, strict=True)
    ]
    settings = config(save_tasks(tmp_path, rows), "capital-choice")
    [figures] = run_tasks(settings, load_tasks(settings), loaded).values()
    assert figures.values["acc"] == pytest.approx(sum(right) / len(right))
    assert (figures.metric, figures.examples, figures.higher_is_better) == ("acc", len(ROWS), True)
    assert figures.stderr == pytest.approx(torch.tensor(right).double().std().item() / len(right) ** 0.5)
    assert list(figures.values)[:2] == ["acc", "acc_norm"]


def test_rolling_log_likelihoods_are_bits_per_byte(model: Path, folder: Path) -> None:
    loaded, settings = LoadedModel.load(model), config(folder, "capital-surprise", examples=3)
    figures = run_tasks(settings, load_tasks(settings), loaded)["capital-surprise"]
    texts = [f"The capital of {row['country']} is {row['choices'][row['answer']]}" for row in ROWS[:3]]
    nats = [likelihood(loaded, "<|eos|>", text) for text in texts]
    expected = -sum(nats) / sum(len(text) for text in texts) / torch.log(torch.tensor(2.0)).item()
    assert figures.value == pytest.approx(expected, rel=1e-5)
    assert (figures.higher_is_better, figures.examples) == (False, 3)


def test_generated_answers_are_greedy(tmp_path: Path, model: Path) -> None:
    loaded = LoadedModel.load(model)
    answers = []
    for row in ROWS:
        ids = torch.tensor([loaded.tokenizer(f"The capital of {row['country']} is")["input_ids"]])
        found = loaded.model.generate(ids, max_new_tokens=5, do_sample=False, eos_token_id=[0, 1], pad_token_id=0)
        answers.append(loaded.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True).split("!")[0])
    rows = [{**row, "choices": [answers[i] if i % 2 else "no"]} for i, row in enumerate(ROWS)]
    settings = config(save_tasks(tmp_path, rows), "capital-answer")
    assert run_tasks(settings, load_tasks(settings), loaded)["capital-answer"].values["exact_match"] == 0.5


def test_an_evaluation_reports_tasks_and_its_other_metrics_are_unchanged(
    tmp_path: Path, model: Path, folder: Path
) -> None:
    data = tiny.save_dataset(tmp_path / "data", [tiny.chat("q" * i, "a") for i in range(1, 4)])
    alone = evaluate(EvaluateConfig(max_new_tokens=4), model, data, tmp_path / "alone")
    reports = [evaluate(config(folder, "capitals"), model, data, tmp_path / name) for name in ("one", "two")]
    assert reports[0].tasks == reports[1].tasks
    assert set(reports[0].tasks) == {"capitals"}  # a group's figure stands for those of its tasks
    assert reports[0].figures()["task/capitals/acc"] == reports[0].tasks["capitals"].values["acc"]
    assert "task/capitals/stderr" not in reports[0].figures()
    beside = {"tasks", "seconds"}
    assert reports[0].model_dump(exclude=beside) == alone.model_dump(exclude=beside)


def test_task_files_come_from_the_object_store(
    tmp_path: Path, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, model: Path, folder: Path
) -> None:
    monkeypatch.setenv("LORALINE_CACHE", str(tmp_path))
    storage.upload(folder, "s3://task-files/mine")
    settings = config("s3://task-files/mine", "capital-choice", examples=2)
    assert run_tasks(settings, load_tasks(settings), LoadedModel.load(model))["capital-choice"].examples == 2


def test_tasks_that_cannot_run_are_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    nothing = tmp_path / "no-model"
    with pytest.raises(ConfigurationError, match="there is no such folder here"):
        evaluate(config("nowhere", "capital-choice"), nothing, nothing, nothing)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'loraline\[harness\]'"):
        evaluate(config(folder, "capital-choice"), nothing, nothing, nothing)


def test_a_recipe_without_tasks_needs_no_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_harness(EvaluateConfig())
    check_task_folder(EvaluateConfig(tasks=["mine"], task_folder="s3://bucket/tasks"))
    with pytest.raises(ValueError, match="task_folder is 'here', but tasks is empty"):
        EvaluateConfig(task_folder="here")


def test_missing_data_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "choice.yaml").write_text(CHOICE)
    with pytest.raises(DatasetError, match=r"tasks capital-choice cannot be loaded: .*capitals\.jsonl"):
        load_tasks(config(tmp_path, "capital-choice"))


def test_a_task_that_runs_generated_code_is_refused(tmp_path: Path, model: Path, folder: Path) -> None:
    (tmp_path / "answer.yaml").write_text(ANSWER + "unsafe_code: true\n")
    (tmp_path / "data").symlink_to(folder / "data")
    settings = config(tmp_path, "capital-answer")
    with pytest.raises(ConfigurationError, match="capital-answer which is marked as unsafe"):
        run_tasks(settings, load_tasks(settings), LoadedModel.load(model))


def test_the_scores_of_examples_come_to_the_figure(model: Path, folder: Path) -> None:
    settings = config(folder, "capitals", "capital-surprise", "capital-answer", examples=5)
    reports = run_tasks(settings, load_tasks(settings), LoadedModel.load(model))
    assert set(reports) == {"capitals", "capital-surprise", "capital-answer"}
    for report in reports.values():
        assert len(report.scores) == report.examples == 5
        total = sum(score.weight for score in report.scores.values())
        mean = sum(score.value for score in report.scores.values()) / total
        assert mean == pytest.approx(report.value)
    assert all(score.weight > 1 for score in reports["capital-surprise"].scores.values())
    assert {id_.split(":")[0] for id_ in reports["capitals"].scores} == {"capital-choice"}


def test_a_figure_that_is_no_mean_over_examples_has_no_scores() -> None:
    samples = {"task": [{"filter": "none", "doc_id": i, "mcc": (1, i % 2)} for i in range(4)]}
    assert task_scores(samples, "mcc", "none", 0.3) == {}
    assert task_scores({"task": []}, "acc", "none", 0.3) == {}
    right = {"task": [{"filter": "none", "doc_id": i, "acc": float(i % 2)} for i in range(4)]}
    assert [score.value for score in task_scores(right, "acc", "none", 0.5).values()] == [0, 1, 0, 1]
    assert task_scores(right, "acc", "none", 0.6) == {}
