"""The phases, on the functions of the pipeline's steps: shown while they run, and their memory freed afterwards."""

import gc
import logging
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from loraline import progress
from loraline.artifacts.evaluation import ChampionReport
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.training import TrainReport
from loraline.errors import ConfigurationError
from loraline.evidence.lineage import Lineage
from loraline.evidence.schema import Evidence
from loraline.finetune.inputs import CachedBase, policy_of
from loraline.finetune.results import ReportPage
from loraline.progress_display import shown
from loraline.recipe import Recipe
from loraline.safety.policy import Policy

if TYPE_CHECKING:
    from loraline.serving.conversation import Conversation

_FEW_STEPS = 50
"""Fewer optimizer steps than this rarely teach a model anything."""


@contextmanager
def phase(name: str) -> Iterator[None]:
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


def train(recipe: Recipe, base: CachedBase, rows: Path, output: Path, checkpoints: Path) -> None:
    """Train an adapter into a folder. Interrupted, it resumes from its checkpoints when it is called again."""
    with phase("train"):
        from loraline.training.launch import launch

        launch(recipe.training, base.working, rows, output, checkpoints=str(checkpoints))
        _note_few_steps(recipe, TrainReport.load(output))


def _note_few_steps(recipe: Recipe, report: TrainReport) -> None:
    config = recipe.training
    if report.steps < _FEW_STEPS and not config.max_steps:
        tokens = config.batch_size * config.gradient_accumulation_steps * config.max_length
        progress.note(
            f"only {report.steps} optimizer steps, of up to {tokens:,} tokens each: for more, lower batch_size or "
            "max_length, or raise epochs"
        )


def evaluate(recipe: Recipe, name: str, model: Path, rows: Path, output: Path) -> None:
    """Evaluate a base, or a merged model, into a folder."""
    with phase(f"evaluate {name}"):
        from loraline.evaluation.evaluate import evaluate as evaluate_step

        evaluate_step(recipe.evaluation, model, rows, output, policy_of(recipe), recipe.model)


def merge(recipe: Recipe, base: CachedBase, adapter: Path, rows: Path | None, output: Path) -> MergeReport:
    """Merge an adapter into its base. What an earlier merge left in the folder is replaced, anything else is refused.

    Raises:
        ConfigurationError: the folder holds something that is no merged model.
        AdapterError: the adapter does not fit the base.
    """
    if output.exists() and any(output.iterdir()) and not (output / MergeReport.FILE).exists():
        raise ConfigurationError(f"{output} holds files that no merge has written; name another folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with phase("merge"):
        from loraline.merging.merge import merge as merge_step
        from loraline.safety.policy_files import write_policy

        report = merge_step(recipe.merge, base.full, adapter, rows, unfinished)
        if policy := policy_of(recipe):
            write_policy(policy, unfinished)
        shutil.rmtree(output, ignore_errors=True)
        unfinished.rename(output)
    return report


def judge(
    recipe: Recipe,
    lineage: Lineage,
    rows: Path,
    evaluations: tuple[Path, Path],
    adapter: Path,
    merged: Path,
    output: Path,
) -> ReportPage:
    """Judge a tuned model by the gate, without a champion, and make its page.

    Args:
        recipe: with the thresholds and the policy.
        lineage: what the model came from.
        rows: folder of the prepared rows.
        evaluations: folders of the base's and of the tuned model's evaluation.
        adapter: folder of the adapter.
        merged: folder of the merged model.
        output: gets evidence.json and verdict.json.
    """
    with phase("report"):
        from loraline.gate.judge import judge as judge_step

        champion = output / "champion"
        ChampionReport(champion=None, evaluation=None).save(champion)
        with progress.shown_by(progress.NoOutput()):  # the reasons are in the result
            judge_step(
                recipe.gate,
                lineage,
                policy_of(recipe),
                dataset=rows,
                base=evaluations[0],
                tuned=evaluations[1],
                champion=champion,
                adapter=adapter,
                parity=merged,
                output=output,
            )
        page = make_page(Evidence.load(output))
        progress.headline(page.verdict)
        return page


def make_page(evidence: Evidence) -> ReportPage:
    """Render the page of a tuned model that was judged."""
    from loraline.report.markdown import run_summary
    from loraline.report.run_page import render_run_page

    return ReportPage(evidence, render_run_page(evidence), run_summary(evidence))


def load_conversation(base: CachedBase, adapter: Path | None, policy: Policy | None) -> "Conversation":
    """Load the base, with an adapter on it or without, to answer prompts under a policy."""
    with phase("load model"):
        from loraline.serving.conversation import Conversation
        from loraline.serving.guard import Guard

        return Conversation(base.working, adapter, Guard(policy))
