"""What a step's result depends on: the table of what runs again after a change of code, and what does not."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from loraline.identity import code
from loraline.identity.code import STEPS, closure, code_digest, imports, module_file
from loraline.identity.libraries import COMPUTING

ROOT = Path(__file__).parents[3]
READS_ROWS = {"prepare_dataset", "train_lora", "evaluate_model", "merge_adapter"}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the library that a test may change; digests are of the copy."""
    shutil.copytree(ROOT / "loraline", tmp_path / "loraline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "_ROOT", tmp_path)
    return tmp_path / "loraline"


def runs_again(file: Path, old: str, new: str) -> set[str]:
    """The steps whose identity changes with an edit of a file."""
    before = {step: code_digest(step) for step in STEPS}
    text = file.read_text()
    changed = re.sub(old, new, text, count=1, flags=re.M)
    assert changed != text, f"{old!r} does not match in {file}"
    file.write_text(changed)
    return {step for step, digest in before.items() if code_digest(step) != digest}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("training/train.py", r"\Z", "\n# a comment\n"),
        ("training/loss.py", r'\A"""', '"""Reworded. '),
        ("training/config.py", r'"""(\w)', r'"""Described anew. \1'),
        ("training/train.py", r'progress\.headline\(\n?\s*f"', 'progress.headline(f"now: '),
        ("training/train.py", r'raise TrainingError\(\s*f"', 'raise TrainingError(f"sorry, '),
        ("report/templates/style.css", r"\Z", "\nbody { color: red }\n"),
        ("report/templates/run_page.html.j2", r"\Z", "<p>more</p>"),
        ("report/run_page.py", r"\Z", "\nMORE = 1\n"),
        ("tracking/tracker.py", r"\Z", "\nMORE = 1\n"),
        ("training/multinode/kubernetes_api.py", r"\Z", "\nMORE = 1\n"),
        ("training/launch.py", r"\Z", "\nMORE = 1\n"),
        ("quickstart/dates.py", r"_ROWS = 3000", "_ROWS = 3001"),
        ("progress.py", r"\Z", "\nMORE = 1\n"),
        ("storage.py", r"\Z", "\nMORE = 1\n"),
        ("serving/guard.py", r"\Z", "\nMORE = 1\n"),
        ("registry/clean.py", r"\Z", "\nMORE = 1\n"),
        ("models/memory_estimate.py", r"\Z", "\nMORE = 1\n"),
    ],
)
def test_what_changes_no_result_runs_nothing_again(tree: Path, file: str, old: str, new: str) -> None:
    assert runs_again(tree / file, old, new) == set()


@pytest.mark.parametrize(
    ("file", "steps"),
    [
        ("training/loss.py", {"train_lora"}),
        ("training/packing/attention.py", {"train_lora"}),
        ("training/adapter.py", {"train_lora"}),
        ("data/chat.py", READS_ROWS),
        ("data/rows.py", READS_ROWS),
        ("data/reading/json_reader.py", {"prepare_dataset"}),
        ("data/split.py", {"prepare_dataset"}),
        ("evidence/statistics.py", {"gate", "register_model"}),
        ("gate/weigh.py", {"gate", "register_model"}),
        ("evaluation/metrics.py", {"evaluate_model"}),
        ("merging/streaming_merge.py", {"merge_adapter"}),
        ("models/quantize.py", {"load_model"}),
        ("models/footprint.py", {"train_lora"}),
        ("models/load.py", {"train_lora", "evaluate_model", "merge_adapter"}),
        ("registry/register.py", {"register_model"}),
        ("artifacts/training.py", {"train_lora", "merge_adapter", "gate", "register_model"}),
    ],
)
def test_a_changed_line_runs_again_exactly_what_depends_on_it(tree: Path, file: str, steps: set[str]) -> None:
    assert runs_again(tree / file, r"\Z", "\nMORE = 1\n") == steps


def test_no_step_depends_on_how_it_is_wrapped_tracked_or_shown() -> None:
    for step in STEPS:
        assert not [module for module in closure(step) if code.has_no_effect(module)], step


def test_every_library_that_computes_in_a_step_is_of_its_identity() -> None:
    """What a step imports of others computes, or is named here as what does not."""
    computes_nothing = {"pydantic", "pydantic_core", "huggingface_hub", "mlflow", "yaml", "regex", "psutil", "ijson"}
    computes_nothing |= {"zstandard", "jinja2", "typing_extensions"}
    computes_nothing |= {"safetensors", "pyarrow", "datasets"}  # read files, and are named where they compute
    named = {"lm_eval": "lm-eval"}
    for step in STEPS:
        sources = [module_file(module).read_bytes() for module in closure(step)]
        packages = {name.split(".")[0] for source in sources for name in imports(source)} - {"loraline"}
        foreign = packages - sys.stdlib_module_names - computes_nothing
        missing = {named.get(package, package) for package in foreign} - set(COMPUTING[step])
        assert not missing, f"{step}: {missing}"
