"""The phases of a job, on the functions that the pipeline's steps are made of; each result is kept and made once."""

import gc
import logging
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraline import progress
from loraline.artifacts.base_model import ModelManifest
from loraline.artifacts.evaluation import EvaluationReport
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.training import TrainReport
from loraline.errors import ConfigurationError
from loraline.finetune.inputs import FetchedBase, PreparedRows, policy_of, step_key
from loraline.finetune.results import ReportPage
from loraline.finetune.workspace import Workspace
from loraline.identity.digests import digest_file, digest_pairs
from loraline.identity.model_digests import adapter_digest
from loraline.progress_display import shown, tell
from loraline.recipe import Recipe
from loraline.safety.policy import Policy
from loraline.training.config import TrainConfig

if TYPE_CHECKING:
    from loraline.serving.conversation import Conversation

_FEW_STEPS = 50
"""Fewer optimizer steps than this rarely teach a model anything."""


@contextmanager
def _phase(name: str) -> Iterator[None]:
    """Show a phase, spare it the warnings of the libraries about each other, and free its memory when it has ended."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        with shown(name), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
            yield
    finally:
        release_memory()


def release_memory() -> None:
    """Free models that nothing refers to any more, also on the GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()


def train_adapter(recipe: Recipe, workspace: Workspace, base: FetchedBase, rows: Path) -> Path:
    """Train an adapter, or return the one that these settings gave before. An interrupted training resumes."""
    identity = step_key("train_lora", recipe.training, exclude={"nodes"})
    folder = workspace.path("adapter", *identity, _base_identity(base), _rows_identity(rows))
    if folder.exists():
        tell("train", f"{_trained(TrainReport.load(folder))}  ({folder})")
        return folder
    checkpoints = workspace.root / "checkpoints" / folder.name

    def make(new: Path) -> None:
        from loraline.training.launch import launch

        launch(recipe.training, base.working, rows, new, checkpoints=str(checkpoints))

    with _phase("train"):
        workspace.result(folder, make)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return folder


def _note_few_steps(config: TrainConfig, report: TrainReport) -> None:
    if report.steps < _FEW_STEPS and not config.max_steps:
        tokens = config.batch_size * config.gradient_accumulation_steps * config.max_length
        progress.note(
            f"training had only {report.steps} optimizer steps of up to {tokens:,} tokens: for more, lower batch_size "
            "or max_length, or raise epochs"
        )


def _trained(report: TrainReport) -> str:
    return f"loss {report.final_loss:.3f} after {report.steps} steps"


def evaluate_model(
    recipe: Recipe, workspace: Workspace, base: FetchedBase, rows: Path, adapter: Path | None = None
) -> Path:
    """Evaluate the base, or an adapter on it, or return the folder of the evaluation that was made before."""
    policy = policy_of(recipe)
    identity = step_key("evaluate_model", recipe.evaluation)
    inputs = [_base_identity(base), _rows_identity(rows), adapter and adapter_digest(adapter)]
    folder = workspace.path("evaluation", *identity, *inputs, policy and policy.model_dump(mode="json"))
    name = "evaluate tuned" if adapter else "evaluate base"
    if folder.exists():
        tell(name, EvaluationReport.load(folder).headline())
        return folder

    def make(new: Path) -> None:
        from loraline.evaluation.evaluate import evaluate

        evaluate(recipe.evaluation, base.working, rows, new, adapter, policy)

    with _phase(name):
        return workspace.result(folder, make)


def merge_adapter(recipe: Recipe, base: FetchedBase, adapter: Path, rows: Path | None, output: Path) -> MergeReport:
    """Merge an adapter into its base. What an earlier merge left in the folder is replaced, anything else is refused.

    Raises:
        ConfigurationError: the folder holds something that is no merged model.
    """
    if output.exists() and any(output.iterdir()) and not (output / MergeReport.FILE).exists():
        raise ConfigurationError(f"{output} holds files that no merge has written; name another folder")
    unfinished = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with _phase("merge"):
        from loraline.merging.merge import merge
        from loraline.safety.policy_files import write_policy

        report = merge(recipe.merge, base.full, adapter, rows, unfinished)
        if policy := policy_of(recipe):
            write_policy(policy, unfinished)
        shutil.rmtree(output, ignore_errors=True)
        unfinished.rename(output)
    return report


def _base_identity(base: FetchedBase) -> dict[str, Any]:
    return ModelManifest.load(base.working).model_dump(mode="json", exclude={"taken", "identity"})


def _rows_identity(folder: Path) -> str:
    return digest_pairs((file.name, digest_file(file)) for file in folder.glob("*.parquet"))


def judge_and_report(
    recipe: Recipe, workspace: Workspace, base: FetchedBase, rows: PreparedRows, adapter: Path, merged: Path | None
) -> ReportPage:
    """Judge a tuned model by the gate, and make its page; what the gate needs and is not there yet is made first.

    Args:
        recipe: with the thresholds.
        workspace: where results are.
        base: the base model.
        rows: the prepared rows.
        adapter: the trained adapter.
        merged: the merged model, if there is one.
    """
    evaluations = [evaluate_model(recipe, workspace, base, rows.folder, one) for one in (None, adapter)]
    if merged is None:
        key = [recipe.merge.model_dump(mode="json"), adapter_digest(adapter), _rows_identity(rows.folder)]
        merged = workspace.path("merged", *key)
        if not merged.exists():
            merge_adapter(recipe, base, adapter, rows.folder, merged)
    evidence = workspace.root / "evidence"
    with _phase("report"):
        return _judge(recipe, base, rows, evaluations, adapter, merged, evidence)


def _judge(
    recipe: Recipe,
    base: FetchedBase,
    rows: PreparedRows,
    evaluations: list[Path],
    adapter: Path,
    merged: Path,
    output: Path,
) -> ReportPage:
    from loraline.evaluation.champion import evaluate_champion
    from loraline.evidence.schema import Evidence
    from loraline.gate.judge import judge
    from loraline.report.markdown import run_summary
    from loraline.report.run_page import render_run_page
    from loraline.resolve import make_lineage

    policy = policy_of(recipe)
    champion = output / "champion"
    evaluate_champion(recipe.evaluation, base.working, rows.folder, champion, None)
    judge(
        recipe.gate,
        make_lineage(recipe, rows.config, rows.digest, base.pin, policy),
        policy,
        dataset=rows.folder,
        base=evaluations[0],
        tuned=evaluations[1],
        champion=champion,
        adapter=adapter,
        parity=merged,
        output=output,
    )
    evidence = Evidence.load(output)
    return ReportPage(evidence, render_run_page(evidence), run_summary(evidence))


def load_conversation(base: FetchedBase, adapter: Path | None, policy: Policy | None) -> "Conversation":
    """Load the base, with an adapter on it or without, to answer prompts under a policy."""
    with _phase("load model"):
        from loraline.serving.conversation import Conversation
        from loraline.serving.guard import Guard

        return Conversation(base.working, adapter, Guard(policy))
