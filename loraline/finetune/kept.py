"""The phases of a job: each result is kept in the job's workspace, and made once."""

import shutil
from pathlib import Path
from typing import Any

from loraline.artifacts.base_model import ModelManifest
from loraline.artifacts.evaluation import EvaluationReport
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.training import TrainReport
from loraline.finetune import phases
from loraline.finetune.inputs import CachedBase, PreparedRows, policy_of, step_key
from loraline.finetune.results import ReportPage
from loraline.finetune.workspace import Workspace
from loraline.identity.digests import digest_file, digest_pairs
from loraline.identity.model_digests import adapter_digest, merged_digest
from loraline.progress_display import tell
from loraline.recipe import Recipe


def trained_adapter(recipe: Recipe, workspace: Workspace, base: CachedBase, rows: Path) -> Path:
    """The adapter that these settings and rows give. A training that was interrupted resumes."""
    identity = step_key("train_lora", recipe.training, exclude={"nodes"})
    folder = workspace.path("adapter", *identity, _base_identity(base), _rows_identity(rows))
    if folder.exists():
        report = TrainReport.load(folder)
        tell("train", f"loss {report.final_loss:.3f} after {report.steps} steps")
        return folder
    checkpoints = workspace.root / "checkpoints" / folder.name
    workspace.result(folder, lambda new: phases.train(recipe, base, rows, new, checkpoints))
    shutil.rmtree(checkpoints, ignore_errors=True)
    return folder


def merged_model(recipe: Recipe, workspace: Workspace, base: CachedBase, rows: Path | None, adapter: Path) -> Path:
    """The base with an adapter merged into it, compared on these rows with the adapter on the base."""
    key = [*step_key("merge_adapter", recipe.merge), _base_identity(base), adapter_digest(adapter)]
    folder = workspace.path("merged", *key, rows and _rows_identity(rows))
    if folder.exists():
        tell("merge", MergeReport.load(folder).headline())
    else:
        phases.merge(recipe, base, adapter, rows, folder)
    return folder


def evaluation(recipe: Recipe, workspace: Workspace, base: CachedBase, rows: Path, merged: Path | None = None) -> Path:
    """The evaluation of the base, or of a merged model."""
    policy = policy_of(recipe)
    folder = workspace.path(
        "evaluation",
        *step_key("evaluate_model", recipe.evaluation),
        [_base_identity(base), _rows_identity(rows), merged and merged_digest(merged)],
        policy and policy.digest,
    )
    name = "tuned" if merged else "base"
    if folder.exists():
        tell(f"evaluate {name}", EvaluationReport.load(folder).headline())
        return folder
    return workspace.result(folder, lambda new: phases.evaluate(recipe, name, merged or base.full, rows, new))


def report(
    recipe: Recipe, workspace: Workspace, base: CachedBase, rows: PreparedRows, adapter: Path, merged: Path | None
) -> ReportPage:
    """Judge a tuned model and make its page; an evaluation or a merge that is not there yet is made first.

    Args:
        recipe: all settings of the job.
        workspace: where results are.
        base: the base model.
        rows: the prepared rows.
        adapter: the trained adapter.
        merged: the merged model, if there is one.
    """
    from loraline.resolve import make_lineage

    merged = merged or merged_model(recipe, workspace, base, rows.folder, adapter)
    base_folder, tuned_folder = (evaluation(recipe, workspace, base, rows.folder, one) for one in (None, merged))
    lineage = make_lineage(recipe, rows.config, rows.digest, base.pin, policy_of(recipe))
    folders = (base_folder, tuned_folder)
    return phases.judge(recipe, lineage, rows.folder, folders, adapter, merged, workspace.root / "evidence")


def _base_identity(base: CachedBase) -> dict[str, Any]:
    return ModelManifest.load(base.working).model_dump(mode="json", exclude={"resolved", "identity"})


def _rows_identity(folder: Path) -> str:
    return digest_pairs((file.name, digest_file(file)) for file in folder.glob("*.parquet"))
