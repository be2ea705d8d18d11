"""Run tasks of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness) on a loaded model.

Tasks run as the harness defines them, without a chat template, which a base model does not know, and on the first
examples of each. Their metrics compare the models of one run; published ones are over all examples.
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
from loraline.evaluation.task_scores import task_scores
from loraline.evaluation.tasks import Tasks, seed_everything
from loraline.models.loaded import LoadedModel

_BOOTSTRAP_SAMPLES = 1000  # for the standard error of a metric that is not a mean
_TOKENS_PER_BATCH = 4096  # bounds the logits: 2 GB in float32 with a vocabulary of 128k


def run_tasks(config: EvaluateConfig, tasks: Tasks, loaded: LoadedModel) -> dict[str, TaskReport]:
    """Run tasks on a model. Examples, their order and the seeds are the same for every model.

    Raises:
        ConfigurationError: a task runs code that the model generates, or is multimodal.
    """
    seed_everything()
    os.environ["DISABLE_MULTIPROC"] = "1"  # bootstrap in this process: none is forked for each core beside a GPU
    loaded.model.generation_config = GenerationConfig(eos_token_id=loaded.stop_token_ids)
    try:
        output = evaluator.evaluate(
            _HarnessModel(loaded, config.batch_size),
            tasks,
            limit=config.task_examples or None,
            bootstrap_iters=_BOOTSTRAP_SAMPLES,
            log_samples=True,
        )
    except ValueError as error:
        if "run task" not in str(error):
            raise
        raise ConfigurationError(f"evaluation.tasks: {error}; such tasks are not run here, name others") from error
    finally:
        loaded.model.generation_config = GenerationConfig()
    return _task_reports(output, tasks)


class _HarnessModel(HFLM):
    """Adapter from a loaded model to the harness; its batches depend on the requests alone."""

    def __init__(self, loaded: LoadedModel, batch_size: int) -> None:
        # The harness ties the weights again, which fails with an adapter on a tied head. They are tied already.
        loaded.model.tie_weights = lambda: None
        try:
            super().__init__(
                pretrained=loaded.model,
                tokenizer=loaded.tokenizer,
                backend="causal",
                max_length=loaded.context_length,
                batch_size=batch_size,
                softmax_dtype="float32",  # log-likelihoods summed in 16 bit would be equal too often
            )
        finally:
            del loaded.model.tie_weights
        self._max_rows = batch_size
        self._done = self._total = 0

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
        results: list[Any] = super().loglikelihood(requests, disable_tqdm=True)
        return results

    def _loglikelihood_tokens(self, requests: list[Any], disable_tqdm: bool = False, **_: Any) -> list[Any]:
        longest = max(len(context) + len(continuation) for _, context, continuation in requests)
        max_rows = _TOKENS_PER_BATCH // min(longest, self.max_length)
        self.batch_size_per_gpu = max(1, min(self._max_rows, max_rows))
        self._done, self._total = 0, len(requests)
        try:
            results: list[Any] = super()._loglikelihood_tokens(requests, disable_tqdm=True)
        finally:
            self.batch_size_per_gpu = self._max_rows
        self._advance(self._total - self._done)
        return results

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self._done, self._total = 0, len(requests)
        texts: list[str] = super().generate_until(requests, disable_tqdm=True)
        return texts

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._advance(len(inps))
        return super()._model_call(inps, *args, **kwargs)

    def _model_generate(self, context: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._advance(len(context))
        return super()._model_generate(context, *args, **kwargs)

    def _advance(self, rows: int) -> None:
        """Report progress. Requests that share a context are one row, so that the last call adds the rest."""
        if rows:
            self._done += rows
            progress.advance(self._done, self._total, "task requests")


def _task_reports(output: Any, tasks: Tasks) -> dict[str, TaskReport]:
    """Read the harness's output: a report for each task, but for a group with metrics of its own only the group's."""
    groups = {name for name in tasks["groups"] if _metrics(output["results"].get(name, {}))}
    in_groups = {name for group in groups for name in _members(group, tasks["group_map"])}
    return {
        name: _task_report(name, output, sorted(_members(name, tasks["group_map"]) or {name}))
        for name, results in sorted(output["results"].items())
        if name not in in_groups and _metrics(results)
    }


def _members(group: str, group_map: dict[str, list[str]]) -> set[str]:
    """Names of all tasks and groups below a group, at any depth."""
    children = set(group_map.get(group, []))
    return children.union(*(_members(child, group_map) for child in children))


def _metrics(results: dict[str, Any]) -> dict[str, str]:
    """The harness's key (`metric,filter`) of each of a task's metrics, by its name in our report (`metric/filter`)."""
    keys = [key for key in results if "," in key and not key.split(",")[0].endswith("_stderr")]
    return {key.removesuffix(",none").replace(",", "/"): key for key in keys}


def _task_report(name: str, output: Any, members: list[str]) -> TaskReport:
    results = output["results"][name]
    metrics = _metrics(results)
    values = {metric: float(results[key]) for metric, key in metrics.items()}
    not_finite = [metric for metric, value in values.items() if not math.isfinite(value)]
    if not_finite:
        progress.note(f"task {name}: {', '.join(not_finite)} is not a number, and left out")
    main = next(iter(metrics))
    metric, filter_name = metrics[main].split(",", 1)
    stderr = results.get(f"{metric}_stderr,{filter_name}")
    samples = {member: output["samples"].get(member, []) for member in members}
    return TaskReport(
        metric=main,
        higher_is_better=output["higher_is_better"].get(name, {}).get(metric, True) is not False,
        values=dict(values),
        stderr=stderr if isinstance(stderr, float) else None,
        examples=int(results.get("sample_len", 0)),
        scores=task_scores(samples, metric, filter_name, values[main]),
    )
