"""The whole pipeline on this machine, through the command that people type."""

import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.local.summary import Summary

LORALINE = Path(sysconfig.get_path("scripts")) / "loraline"
ALWAYS_RUN = {"resolve_recipe", "report"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all commands of this module run, so that they share a cache."""
    return tmp_path_factory.mktemp("workplace")


def environment() -> dict[str, str]:
    """This process's environment without what would lead a run elsewhere."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MLFLOW_", "LORALINE_"))}


def loraline(workplace: Path, *arguments: str, exit_status: int = 0) -> str:
    done = subprocess.run(
        [str(LORALINE), *arguments],
        cwd=workplace,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exit_status, done.stdout + done.stderr
    return done.stdout + done.stderr


def summary(workplace: Path) -> Summary:
    return Summary.load(workplace / "runs/latest")


@pytest.fixture(scope="module")
def quickstart(workplace: Path) -> tuple[str, Summary]:
    """The quickstart's first run: what it wrote on the terminal, and its summary."""
    output = loraline(workplace, "run", "quickstart")
    return output, summary(workplace)


@pytest.fixture(scope="module")
def rows(workplace: Path) -> Path:
    """A small data file of one's own."""
    file = workplace / "rows.jsonl"
    lines = [{"prompt": f"Say {n} twice", "completion": f"{n} {n}"} for n in range(120)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture(scope="module")
def on_rows(rows: Path) -> tuple[str, ...]:
    """The command that trains on those rows, for seconds, with checkpoints close to each other."""
    few = ("data.eval_fraction=0.2", "evaluation.max_examples=20", "evaluation.max_new_tokens=4")
    slow = ("training.epochs=40", "training.max_steps=400", "training.max_length=64", "training.save_steps=10")
    return ("run", "quickstart", f"data.source={rows}", *slow, *few, "gate.min_examples=20")


def test_the_tuned_model_can_what_the_base_cannot(quickstart: tuple[str, Summary]) -> None:
    _, result = quickstart
    assert result.base.exact_match <= 0.2
    assert result.tuned.exact_match >= 0.8
    assert result.tuned.perplexity < result.base.perplexity
    assert result.verdict == "promote"
    assert abs(result.merge.effect_kept - 1) <= result.merge.max_effect_change


def test_a_person_sees_the_steps_the_verdict_and_where_things_are(
    quickstart: tuple[str, Summary],
) -> None:
    output, result = quickstart
    for step in result.seconds:
        assert step in output
    assert "exact match" in output
    assert "promote" in output
    assert "report.html" in output
    assert "KFP Executor" not in output


def test_what_the_summary_names_is_there(quickstart: tuple[str, Summary], workplace: Path) -> None:
    _, result = quickstart
    for name, place in result.where.items():
        assert name == "tracking" or (workplace / place).exists(), place
    assert result.cached == []
    assert result.model_version is not None
    assert result.model_version.alias == "challenger"
    assert all(result.digests.model_dump().values())


def test_nothing_changed_means_nothing_runs(quickstart: tuple[str, Summary], workplace: Path) -> None:
    _, first = quickstart
    loraline(workplace, "run", "quickstart")
    again = summary(workplace)
    assert set(again.cached) == set(again.seconds) - ALWAYS_RUN
    for key in ("base", "tuned", "training", "merge", "digests", "model_version"):
        assert getattr(again, key) == getattr(first, key)


def test_a_reject_is_green_and_moves_no_alias(quickstart: tuple[str, Summary], workplace: Path) -> None:
    output = loraline(workplace, "run", "quickstart", "gate.min_gain=1.0")
    result = summary(workplace)
    assert result.verdict == "reject"
    assert result.reasons
    assert result.model_version is None
    assert "reject" in output
    assert {"train_lora", "evaluate base", "merge_adapter"} <= set(result.cached)
    assert "gate" not in result.cached


def test_bad_rows_are_reported_without_a_traceback(workplace: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 3, "completion": "b"}\nnot json\n')
    output = loraline(workplace, "run", "quickstart", f"data.source={file}", exit_status=1)
    assert "prepare_dataset" in output
    assert "bad.jsonl:2" in output
    assert "bad.jsonl:3" in output
    assert "Traceback" not in output


def running_in(workplace: Path) -> list[int]:
    """Processes whose current folder is the workplace."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == workplace.resolve():
                found.append(int(process.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.1)


@pytest.fixture
def training_run(workplace: Path, quickstart: object, on_rows: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
    """A run that is in the middle of training, with another checkpoint kept than those of the runs before."""
    process = subprocess.Popen([str(LORALINE), *on_rows], cwd=workplace, env=environment(), stdout=subprocess.DEVNULL)
    checkpoints = workplace / ".loraline/s3/data/loraline/checkpoints"
    before = set(checkpoints.rglob("*"))
    wait_until(lambda: bool(set(checkpoints.rglob("*")) - before), 120, "a checkpoint")
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()


# The tests below follow each other: the run that is stopped three times is the one that is finished, and whose data
# changes then.


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for processes in /proc, which this system lacks")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_nothing_and_goes_on(
    training_run: subprocess.Popen[bytes], workplace: Path, number: signal.Signals
) -> None:
    training_run.send_signal(number)
    training_run.wait(timeout=30)
    if number is not signal.SIGKILL:
        assert training_run.returncode == 130
    wait_until(lambda: not running_in(workplace), 15, "the end of every process of the run")


@pytest.fixture(scope="module")
def finished(workplace: Path, quickstart: object, on_rows: tuple[str, ...]) -> Summary:
    """The summary of the run on those rows, once nobody stops it any more."""
    loraline(workplace, *on_rows)
    return summary(workplace)


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="follows the test above")
def test_what_was_stopped_goes_on_from_its_checkpoint(workplace: Path, finished: Summary) -> None:
    training = json.loads((workplace / "runs/latest/adapter/training.json").read_text())
    assert training["resumed_from"]
    assert {"prepare_dataset", "load_model", "evaluate base"} <= set(finished.cached)


def test_a_changed_row_runs_what_depends_on_it(
    workplace: Path, finished: Summary, rows: Path, on_rows: tuple[str, ...]
) -> None:
    rows.write_text(rows.read_text().replace("Say 7 twice", "Say 7 thrice"))
    loraline(workplace, *on_rows)
    second = summary(workplace)
    assert second.cached == ["load_model"]
    assert second.digests.dataset != finished.digests.dataset
    assert second.digests.base == finished.digests.base
