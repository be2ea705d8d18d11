"""Evaluate a model on the held-out rows: the loss of the reference answers, and metrics of generated answers.

Also evaluated, where the run has them: the general set and tasks of lm-evaluation-harness, for forgetting, and the
safety policy's probes.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from loraline import progress
from loraline.artifacts.base import write_lines
from loraline.artifacts.dataset_files import EVAL_ROWS, GENERAL_ROWS
from loraline.artifacts.evaluation import (
    EXAMPLES,
    GENERAL,
    PROBES,
    EvaluationReport,
    GeneralReport,
    ProbeRates,
    ScoredExample,
    TaskReport,
)
from loraline.data.chat import prompt_digest, prompt_messages
from loraline.data.rows import read_rows
from loraline.evaluation.config import EvaluateConfig, check_harness, check_task_folder
from loraline.evaluation.example_loss import ExampleLoss
from loraline.evaluation.examples import Example, encode_examples, prompt_text, score_examples
from loraline.evaluation.general import score_general
from loraline.evaluation.generate import Answer, answer_prompts
from loraline.evaluation.metrics import exact_match, json_f1, mean, rouge_l, token_f1
from loraline.evaluation.probing import encode_probes, run_probes
from loraline.evaluation.weights import load_weights
from loraline.identity.step_identity import step_identity
from loraline.models.config import ModelConfig
from loraline.models.loaded import LoadedModel
from loraline.safety.policy import Policy


def evaluate(
    config: EvaluateConfig,
    model: Path,
    dataset: Path,
    output: Path,
    policy: Policy | None = None,
    held: ModelConfig | None = None,
) -> EvaluationReport:
    """Evaluate a model on the rows of eval.parquet, the general set, tasks and probes.

    Rows, probes and tasks are computed in the same batches for every model. Writes into `output`: metrics.json (the
    report), examples.jsonl (a line for each example, sorted by id), general.jsonl (for each row of the general set) and
    probes.jsonl (for each probe), the last two where the run has them.

    Args:
        config: how much is scored, and which tasks are run.
        model: a model folder: a base, or a merged model.
        dataset: folder with eval.parquet, and with general.parquet where forgetting is measured.
        output: folder to write.
        policy: the safety policy whose probes are run.
        held: how the model is held in memory, as of `load_weights`.

    Raises:
        ConfigurationError: a task cannot be run here, or a probe does not fit the model's context.
        DatasetError: no row can be scored, or the data of a task cannot be loaded.
        ModelLoadingError: the model cannot be loaded.
        ValidationError: the loss of an example is not finite.
    """
    begin = time.monotonic()
    run_tasks = _prepare_tasks(config)
    rows = read_rows(dataset / EVAL_ROWS)
    loaded, weights = load_weights(model, held)
    probes = encode_probes(loaded, policy) if policy else []
    examples, left_out = encode_examples(loaded, rows[: config.max_examples or None], str(dataset / EVAL_ROWS))
    output.mkdir(parents=True, exist_ok=True)
    losses = score_examples(loaded, examples, "examples scored")
    answers = _generate_answers(config, loaded, [example.prompt for example in examples])
    limit = config.max_new_tokens
    scored = [_score_example(loaded, limit, *parts) for parts in zip(examples, losses, answers, strict=True)]
    write_lines(scored, output / EXAMPLES)
    report = EvaluationReport(
        identity=step_identity("evaluate_model"),
        **_summary(scored, losses),
        unfinished=sum(answer is not None and not answer.finished for answer in answers),
        available=len(rows),
        cut=sum(example.is_truncated for example in examples),
        left_out=left_out,
        general=_general(config, loaded, dataset, output),
        safety=_safety(config, loaded, policy, probes, output),
        tasks=run_tasks(loaded),
        weights=weights,
        seconds=time.monotonic() - begin,
    )
    report.save(output)
    _log(report)
    return report


def _prepare_tasks(config: EvaluateConfig) -> Callable[[LoadedModel], dict[str, TaskReport]]:
    """Load the tasks and their data before anything is computed; returns a function that runs them."""
    check_task_folder(config)
    check_harness(config)
    if not config.tasks:
        return lambda _: {}
    from loraline.evaluation.harness import run_tasks  # an optional package, seconds to import
    from loraline.evaluation.tasks import load_tasks

    return partial(run_tasks, config, load_tasks(config))


def _generate_answers(
    config: EvaluateConfig, loaded: LoadedModel, prompts: list[list[int] | None]
) -> list[Answer | None]:
    """Answer the prompts; None where there is no prompt, or no room for an answer in the context."""
    answerable = {
        i: prompt
        for i, prompt in enumerate(prompts)
        if prompt is not None and loaded.available_new_tokens(prompt, config.max_new_tokens) > 0
    }
    generated = answer_prompts(config, loaded, list(answerable.values()), "examples answered")
    answers = dict(zip(answerable, generated, strict=True))
    return [answers.get(i) for i in range(len(prompts))]


def _score_example(
    loaded: LoadedModel, limit: int, example: Example, loss: ExampleLoss, answer: Answer | None
) -> ScoredExample:
    reference = example.reference
    expected = reference.text if reference else ""
    said = reference.read(loaded.tokenizer, answer.token_ids) if reference and answer else None
    return ScoredExample(
        id=example.row.id,
        prompt=prompt_text(prompt_messages(example.row)) if reference else None,
        prompt_digest=None if example.prompt is None else prompt_digest(example.prompt),
        reference=reference.text if reference else None,
        answer=said,
        loss=loss.nats,
        tokens=loss.tokens,
        exact_match=None if said is None else exact_match(said, expected),
        token_f1=None if said is None else token_f1(said, expected),
        rouge_l=None if said is None else rouge_l(said, expected),
        json_f1=None if said is None else json_f1(said, expected),
        endless=None if answer is None else not answer.finished and example.reference_tokens < limit,
    )


def _general(config: EvaluateConfig, loaded: LoadedModel, dataset: Path, output: Path) -> GeneralReport | None:
    if not (dataset / GENERAL_ROWS).exists():
        return None
    report, losses = score_general(config, loaded, dataset)
    write_lines(losses, output / GENERAL)
    return report


def _safety(
    config: EvaluateConfig, loaded: LoadedModel, policy: Policy | None, prompts: list[list[int]], output: Path
) -> ProbeRates | None:
    if policy is None:
        return None
    report = run_probes(config, loaded, policy, prompts)
    write_lines(report.probes, output / PROBES)
    return ProbeRates.model_validate(report.model_dump(exclude={"probes"}))


def _summary(scored: list[ScoredExample], losses: list[ExampleLoss]) -> dict[str, Any]:
    tokens = sum(loss.tokens for loss in losses)
    loss = math.fsum(loss.nats for loss in losses) / tokens
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),  # the largest exponent before math.exp overflows is 709
        "exact_match": mean([example.exact_match for example in scored]),
        "token_f1": mean([example.token_f1 for example in scored]),
        "rouge_l": mean([example.rouge_l for example in scored]),
        "json_f1": mean([example.json_f1 for example in scored]),
        "examples": len(scored),
        "tokens": tokens,
        "answered": sum(example.answer is not None for example in scored),
        "without_answer": [example.id for example in scored if example.answer is None],
    }


def _log(report: EvaluationReport) -> None:
    """Report what limits the metrics, and the metrics."""
    if report.cut:
        progress.note(f"{report.cut} examples are longer than the model's context: truncated")
    if report.left_out:
        progress.note(f"{len(report.left_out)} examples have their answer beyond the context: not scored")
    if report.without_answer:
        progress.note(
            f"{len(report.without_answer)} examples are plain text or fill the context with their prompt: "
            "no answer is generated, only their loss is measured"
        )
    if report.unfinished:
        progress.note(f"{report.unfinished} answers did not end within evaluation.max_new_tokens")
    if report.general:
        left_out = f", {len(report.general.left_out)} beyond the context" if report.general.left_out else ""
        progress.note(f"general set: loss {report.general.loss:.4g} on {report.general.examples} rows{left_out}")
    if report.safety:
        rates = {name: rate for name, rate in report.safety.model_dump().items() if rate is not None}
        progress.note(", ".join(f"{name.replace('_', ' ')} {rate:.2f}" for name, rate in rates.items()))
    for name, task in report.tasks.items():
        progress.note(f"task {name}: {task.metric} {task.value} on {task.examples} examples")
    progress.headline(report.headline())
