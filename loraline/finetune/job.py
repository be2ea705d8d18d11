"""`FineTune`: a base model and rows in, a tuned model out, with a method for each phase."""

import os
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.dataset_files import Message
from loraline.artifacts.evaluation import EvaluationReport
from loraline.artifacts.training import TrainReport
from loraline.errors import ConfigurationError
from loraline.finetune import kept, overrides, phases
from loraline.finetune.inputs import PreparedRows, cached_base, policy_of, prepare_rows
from loraline.finetune.results import EvaluationResult, MergeResult, PreparedDataset, ReportPage, TrainResult
from loraline.finetune.row_inputs import Rows, as_source
from loraline.finetune.workspace import Workspace
from loraline.identity.digests import json_digest
from loraline.recipe import Recipe
from loraline.sources.adapter_source import find_adapter

if TYPE_CHECKING:
    from loraline.serving.conversation import Conversation

_HOME = Path(".loraline") / "finetune"


class FineTune:
    """A fine-tuning job: one base model, one set of rows, and a method for each phase.

    Each phase does what has to come before it, shows its progress, and keeps its result in the job's folder: called
    again with the same settings it returns at once, and a training that was interrupted resumes from its last
    checkpoint. Models are loaded when they are needed and freed when the phase ends.

    Settings are keyword arguments with the names that they have in a recipe (docs/parameters.md). In a method they
    count for that call; given here they count for the whole job.

    Example:
        >>> from loraline import FineTune
        >>> job = FineTune("HuggingFaceTB/SmolLM2-135M-Instruct", "my.jsonl")
        >>> job.train(rank=16)
        >>> print(job.evaluate())
        >>> job.merge("out")
        >>> print(job.generate("Hello"))
    """

    def __init__(
        self,
        model: str | PathLike[str] | Mapping[str, Any] | Recipe,
        rows: Rows | None = None,
        *,
        eval_rows: Rows | None = None,
        general_rows: Rows | None = None,
        folder: str | PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        """Describe the job; nothing is fetched or computed yet.

        Args:
            model: a base model (a Hub id, a folder, s3://bucket/prefix, models:/name@alias, scratch:dates), or the name
                of a shipped recipe, a recipe file, a recipe's values, or a `Recipe`.
            rows: the rows, of which some are held out for evaluation: a file or folder, s3://, hf://owner/dataset, a
                list of mappings, texts or conversations, a datasets.Dataset, or a pandas DataFrame. None: those of the
                recipe, or none.
            eval_rows: rows to evaluate on instead of a part of `rows`.
            general_rows: rows that are never trained on, to measure forgetting.
            folder: where results are kept. None: a folder below .loraline/finetune, named after model and rows.
            settings: any settings of a recipe, such as `quantization="nf4"` or `columns={"prompt": "question"}`;
                those whose name several sections have, by section: `training={"batch_size": 1}`.

        Raises:
            ConfigurationError: settings are invalid, all of which are named.
            DatasetError: a row is nothing that can be trained on.
        """
        # Before torch is imported: OpenMP threads that spin while they wait starve each other on a busy machine.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        values = overrides.starting_values(model)
        given = {"source": rows, "eval_source": eval_rows, "general_source": general_rows}
        kept_rows = Path(folder or _HOME) / "rows"
        sources = {name: None if one is None else as_source(one, kept_rows) for name, one in given.items()}
        recipe = overrides.build(overrides.with_rows(values, **sources), settings)
        self._values = recipe.model_dump(exclude_unset=True)
        self._settings_used: dict[str, Mapping[str, Any]] = {}
        self._workspace = Workspace(Path(folder) if folder else _HOME / _folder_name(recipe))
        self._adapter: Path | None = None
        self._merged: Path | None = None
        self._conversation: tuple[Path | None, Conversation] | None = None

    @property
    def folder(self) -> Path:
        """Where the results are."""
        return self._workspace.root

    @property
    def recipe(self) -> Recipe:
        """All settings, with those that the phases were last called with."""
        return self._recipe()

    @property
    def adapter(self) -> Path | None:
        """The adapter that `train` made last, in PEFT's layout; None before that."""
        return self._adapter

    def __repr__(self) -> str:
        recipe = self.recipe
        trained = f", adapter {self._adapter}" if self._adapter else ""
        return f"<FineTune {recipe.model.source} on {recipe.data.names() or 'no rows'} in {self.folder}{trained}>"

    def prepare(self, **settings: Any) -> PreparedDataset:
        """Read, check, deduplicate and split the rows.

        Args:
            settings: of the section `data`.

        Raises:
            ConfigurationError: a setting is invalid, or the job has no rows.
            DatasetError: a row is invalid, which the message names, or no row is left.
        """
        rows = self._rows(self._start("data", settings))
        return PreparedDataset(rows.folder, DatasetReport.load(rows.folder))

    def train(self, **settings: Any) -> TrainResult:
        """Train an adapter; a training that was interrupted resumes from its last checkpoint.

        Args:
            settings: of the section `training`, such as `rank=16, learning_rate=1e-4, epochs=2`.

        Raises:
            ConfigurationError: a setting is invalid, or the job has no rows.
            DatasetError: as of `prepare`.
            ModelLoadingError: the base cannot be had, or does not fit.
            TrainingError: no token carries loss, or the loss is no number.
        """
        recipe = self._start("training", settings)
        rows = self._rows(recipe)
        self._adapter = kept.trained_adapter(recipe, self._workspace, cached_base(recipe), rows.folder)
        self._merged = None
        return TrainResult(self._adapter, TrainReport.load(self._adapter))

    def evaluate(
        self, rows: Rows | None = None, *, adapter: str | PathLike[str] | None = None, **settings: Any
    ) -> EvaluationResult:
        """Evaluate the base, and the merged model if there is an adapter, on the same held-out rows.

        What is scored is what `merge` writes: the weights with the adapter merged into them.

        Args:
            rows: rows to evaluate on, all of them. None: those that were held out.
            adapter: an adapter that was trained elsewhere: a PEFT folder, or a Hub id. None: the one of `train`.
            settings: of the section `evaluation`, such as `max_examples=100, max_new_tokens=64`.

        Raises:
            ConfigurationError: a setting is invalid, or there are no rows.
            DatasetError: no row can be evaluated.
            ModelLoadingError, AdapterError: a model cannot be had, or the adapter does not fit the base.
        """
        recipe = self._start("evaluation", settings)
        held_out = self._rows(recipe) if rows is None else self._rows_to_evaluate(recipe, rows)
        base, chosen = cached_base(recipe), self._choose(adapter)
        models: list[Path | None] = [None]
        if chosen:
            compared = self._rows(recipe) if recipe.data.source else held_out
            merged = self._merged if chosen == self._adapter else None
            models.append(merged or kept.merged_model(recipe, self._workspace, base, compared.folder, chosen))
        folders = [kept.evaluation(recipe, self._workspace, base, held_out.folder, one) for one in models]
        reports = [EvaluationReport.load(folder) for folder in folders]
        if chosen is None:
            return EvaluationResult(reports[0], None, folders[0], None)
        return EvaluationResult(reports[0], reports[1], folders[0], folders[1])

    def merge(
        self, output: str | PathLike[str], *, adapter: str | PathLike[str] | None = None, **settings: Any
    ) -> MergeResult:
        """Merge the adapter into the base, and compare the result with the adapter on its base.

        The comparison needs rows; a job without rows merges all the same and says that it was not measured.

        Args:
            output: the folder to write; a merged model that is there already is replaced.
            adapter: as of `evaluate`.
            settings: of the section `merge`.

        Raises:
            ConfigurationError: a setting is invalid, there is no adapter, or the folder holds something else.
            AdapterError: the adapter does not fit the base.
        """
        recipe = self._start("merge", settings)
        chosen = self._choose(adapter)
        if chosen is None:
            raise ConfigurationError("there is no adapter to merge: call train() first, or give adapter=folder")
        rows = self._rows(recipe).folder if recipe.data.source else None
        folder = Path(output)
        report = phases.merge(recipe, cached_base(recipe), chosen, rows, folder)
        if chosen == self._adapter:
            self._merged = folder
        return MergeResult(folder, report)

    def generate(
        self,
        prompt: str | list[Message],
        *,
        adapter: str | PathLike[str] | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> str:
        """Answer a prompt with the tuned model, or with the base before `train`.

        The model stays in memory for the next prompt; any other phase frees it.

        Args:
            prompt: what the user says, or a list of messages {"role": ..., "content": ...}.
            adapter: as of `evaluate`.
            max_new_tokens: longest answer, in tokens.
            temperature: 0: greedy decoding.
            top_p: nucleus sampling: the probability mass to sample from.
            seed: of the sampling.

        Raises:
            ConfigurationError: a value is out of its range, or the prompt fills the model's context.
        """
        messages: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        pieces = self._load_conversation(self._choose(adapter)).answer(
            messages, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed
        )
        return "".join(pieces)

    def report(self, **settings: Any) -> ReportPage:
        """Judge the tuned model as the pipeline's gate does, and make the page; what was not measured yet is.

        Args:
            settings: of the section `gate`, such as `metric="exact_match", min_gain=0.1`.

        Raises:
            ConfigurationError: a setting is invalid, or there is no adapter yet.
        """
        recipe = self._start("gate", settings)
        if self._adapter is None:
            raise ConfigurationError("there is nothing to report yet: call train() first")
        rows, base = self._rows(recipe), cached_base(recipe)
        return kept.report(recipe, self._workspace, base, rows, self._adapter, self._merged)

    def _start(self, section: str, settings: Mapping[str, Any]) -> Recipe:
        """Begin a phase: validate its settings, remember them, and free the model that `generate` keeps."""
        recipe = self._recipe(section, settings)
        self._settings_used[section] = settings
        self._conversation = None
        phases.release_memory()
        return recipe

    def _recipe(self, section: str = "", settings: Mapping[str, Any] | None = None) -> Recipe:
        used = {name: one for name, one in self._settings_used.items() if name != section}
        values = overrides.build(self._values, used).model_dump(exclude_unset=True)
        return overrides.build(values, settings or {}, section)

    def _rows(self, recipe: Recipe) -> PreparedRows:
        if not recipe.data.source:
            raise ConfigurationError("this job has no rows: give them with the model, FineTune(model, rows)")
        return prepare_rows(recipe, self._workspace)

    def _rows_to_evaluate(self, recipe: Recipe, rows: Rows) -> PreparedRows:
        source = {"source": as_source(rows, self._workspace.root / "rows"), "revision": ""}
        data = recipe.data.model_copy(update=source | {"eval_source": "", "general_source": ""})
        return prepare_rows(recipe.model_copy(update={"data": data}), self._workspace, evaluation_only=True)

    def _choose(self, adapter: str | PathLike[str] | None) -> Path | None:
        return self._adapter if adapter is None else find_adapter(adapter)

    def _load_conversation(self, adapter: Path | None) -> "Conversation":
        """The model that answers, kept as long as no other phase begins."""
        if self._conversation is None or self._conversation[0] != adapter:
            self._conversation = None
            phases.release_memory()
            recipe = self.recipe
            conversation = phases.load_conversation(cached_base(recipe), adapter, policy_of(recipe))
            self._conversation = (adapter, conversation)
        return self._conversation[1]


def _folder_name(recipe: Recipe) -> str:
    """A job's folder: words for people, and a digest of model and rows."""
    data, model = recipe.data, recipe.model
    words = [re.sub(r"[^A-Za-z0-9.-]+", "-", Path(source).stem).strip("-.") for source in (model.source, data.names())]
    sources = [[one.name, *one.address] for requests in data.requests().values() for one in requests]
    identity = [model.source, model.revision, sources]
    return "-".join([*(word[:32] for word in words if word), json_digest(identity)[:8]])
