"""Tasks of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness), put to a model in memory.

The tasks are put as the harness puts them: without a chat template, which a base does not know, and on the first
examples of each. So their figures compare models of one run; published ones rest on all examples.
"""

import math
import os
from typing import Any

import torch
from lm_eval import evaluator
from lm_eval.models.huggingface import HFLM
from transformers import GenerationConfig

from loraline import progress
from loraline.artifacts.evaluation import TaskReport
from loraline.errors import ConfigurationError
from loraline.evaluation.config import EvaluateConfig
from loraline.evaluation.tasks import Tasks, seed
from loraline.models.loaded import LoadedModel

_RESAMPLES = 1000  # for the standard error of a metric that is no mean
_TOKENS_PER_BATCH = 4096  # bounds the logits: 2 GB in float32 with a vocabulary of 128k


def run_tasks(config: EvaluateConfig, tasks: Tasks, loaded: LoadedModel) -> dict[str, TaskReport]:
    """Put the tasks to the model. Examples, their order and the seeds are the same for every model.

    Raises:
        ConfigurationError: a task runs code that the model writes, or reads images.
    """
    seed()
    os.environ["DISABLE_MULTIPROC"] = "1"  # no process for each core beside a model on a GPU, to resample figures
    loaded.model.generation_config = GenerationConfig(eos_token_id=loaded.stop_token_ids)
    try:
        found = evaluator.evaluate(
            _Harnessed(loaded, config.batch_size),
            tasks,
            limit=config.task_examples or None,
            bootstrap_iters=_RESAMPLES,
            log_samples=False,
        )
    except ValueError as error:
        if "run task" not in str(error):
            raise
        raise ConfigurationError(f"evaluation.tasks: {error}; such tasks are not run here, name others") from error
    finally:
        loaded.model.generation_config = GenerationConfig()
    return _figures(found, tasks)


class _Harnessed(HFLM):
    """A loaded model as the harness wants it, in batches that depend on the requests alone."""

    def __init__(self, loaded: LoadedModel, batch_size: int) -> None:
        # The harness ties the weights once more, which fails where an adapter is on a tied head: they are tied already.
        loaded.model.tie_weights = lambda: None
        try:
            super().__init__(
                pretrained=loaded.model,
                tokenizer=loaded.tokenizer,
                backend="causal",
                max_length=loaded.context_length,
                batch_size=batch_size,
                softmax_dtype="float32",  # likelihoods summed in 16 bit would tie
            )
        finally:
            del loaded.model.tie_weights
        self._rows = batch_size
        self._done = self._total = 0

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
        found: list[Any] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def _loglikelihood_tokens(self, requests: list[Any], disable_tqdm: bool = False, **_: Any) -> list[Any]:
        longest = max(len(context) + len(continuation) for _, context, continuation in requests)
        fitting = _TOKENS_PER_BATCH // min(longest, self.max_length)
        self.batch_size_per_gpu = max(1, min(self._rows, fitting))
        self._done, self._total = 0, len(requests)
        try:
            found: list[Any] = super()._loglikelihood_tokens(requests, disable_tqdm=True)
        finally:
            self.batch_size_per_gpu = self._rows
        self._advance(self._total - self._done)
        return found

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self._done, self._total = 0, len(requests)
        found: list[str] = super().generate_until(requests, disable_tqdm=True)
        return found

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._advance(len(inps))
        return super()._model_call(inps, *args, **kwargs)

    def _model_generate(self, context: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._advance(len(context))
        return super()._model_generate(context, *args, **kwargs)

    def _advance(self, rows: int) -> None:
        """Say how far it is. Requests that share their context are one row: the end says that all are done."""
        if rows:
            self._done += rows
            progress.advance(self._done, self._total, "task requests")


def _figures(found: Any, tasks: Tasks) -> dict[str, TaskReport]:
    """The figures of each task; of a group's tasks, where the group has a figure of its own, only that."""
    groups = {name for name in tasks["groups"] if _metrics(found["results"].get(name, {}))}
    within = {name for group in groups for name in _members(group, tasks["group_map"])}
    return {
        name: _task_report(name, found)
        for name, results in sorted(found["results"].items())
        if name not in within and _metrics(results)
    }


def _members(group: str, group_map: dict[str, list[str]]) -> set[str]:
    """All that is below a group, at any depth."""
    children = set(group_map.get(group, []))
    return children.union(*(_members(child, group_map) for child in children))


def _metrics(results: dict[str, Any]) -> dict[str, str]:
    """The metrics of a task, by the names that we give them: the harness writes `metric,filter`."""
    keys = [key for key in results if "," in key and not key.split(",")[0].endswith("_stderr")]
    return {key.removesuffix(",none").replace(",", "/"): key for key in keys}


def _task_report(name: str, found: Any) -> TaskReport:
    results = found["results"][name]
    metrics = _metrics(results)
    values = {ours: float(results[key]) for ours, key in metrics.items()}
    broken = [metric for metric, value in values.items() if not math.isfinite(value)]
    if broken:
        progress.note(f"task {name}: {', '.join(broken)} is not a number, and left out")
    main = next(iter(metrics))
    metric, filtered = metrics[main].split(",", 1)
    error = results.get(f"{metric}_stderr,{filtered}")
    return TaskReport(
        metric=main,
        higher_is_better=found["higher_is_better"].get(name, {}).get(metric, True) is not False,
        values=dict(values),
        stderr=error if isinstance(error, float) else None,
        examples=int(results.get("sample_len", 0)),
    )
