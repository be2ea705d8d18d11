"""Score a model on the held-out rows: how it takes the right answers, and what it answers itself."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from components.evaluate_model.config import EvaluateConfig
from components.evaluate_model.generate import greedy_answers, room_for_answer
from components.evaluate_model.loss import ExampleLoss, example_losses, labelled_tokens
from components.evaluate_model.metrics import exact_match, rouge_l, token_f1
from components.evaluate_model.report import EvaluateReport, ScoredExample, mean, prompt_text, write_examples
from components.shared import progress
from components.shared.chat import Encoded, encode_prompt, encode_rows, split_last_turn, stop_token_ids
from components.shared.errors import DatasetError, ValidationError
from components.shared.model_folder import load_tokenizer
from components.shared.models import context_length, load_model
from components.shared.rows import Row, read_rows


@dataclass(frozen=True)
class _Example:
    """A row, its tokens as far as the model reads, and its prompt's tokens where it can be answered."""

    row: Row
    encoded: Encoded
    is_cut: bool
    prompt: list[int] | None


@dataclass(frozen=True)
class _Answer:
    text: str
    finished: bool


def evaluate(
    config: EvaluateConfig, model: Path, dataset: Path, output: Path, adapter: Path | None = None
) -> EvaluateReport:
    """Score a model, with an adapter on it or without, on the rows of eval.parquet.

    The same rows are scored in the same batches whatever the model. Writes metrics.json (the report) and
    examples.jsonl (one example a line, sorted by id) into `output`.

    Raises:
        DatasetError: no row can be scored.
        ModelLoadingError: the model cannot be loaded.
        AdapterError: the adapter does not fit the model.
        ValidationError: the loss of an example is not a number.
    """
    begin = time.monotonic()
    rows = read_rows(dataset / "eval.parquet")
    chosen = rows[: config.max_examples or None]
    tokenizer = load_tokenizer(model)
    network = load_model(model, adapter)
    examples, left_out = _encode(chosen, tokenizer, network, config.max_new_tokens)
    if not examples:
        raise DatasetError(
            f"none of the {len(chosen)} rows of {dataset / 'eval.parquet'} can be scored: there are none, or all "
            f"answers lie beyond the model's context of {context_length(network.config)} tokens; give others"
        )
    losses = _losses(network, examples)
    answers = _answers(network, tokenizer, examples, config)
    scored = [_score(*parts) for parts in zip(examples, losses, answers, strict=True)]
    report = EvaluateReport(
        **_summary(scored),
        unfinished=sum(answer is not None and not answer.finished for answer in answers),
        available=len(rows),
        cut=sum(example.is_cut for example in examples),
        left_out=left_out,
        seconds=time.monotonic() - begin,
    )
    output.mkdir(parents=True, exist_ok=True)
    write_examples(scored, output / "examples.jsonl")
    (output / "metrics.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _tell(report)
    return report


def _encode(
    rows: list[Row], tokenizer: PreTrainedTokenizerBase, network: Any, max_new_tokens: int
) -> tuple[list[_Example], list[str]]:
    """Make examples of the rows; and the ids of rows whose labelled tokens are all beyond the context."""
    context = context_length(network.config)
    examples, left_out = [], []
    for row, whole in zip(rows, encode_rows(tokenizer, rows), strict=True):
        encoded = Encoded(whole.token_ids[:context], whole.loss_mask[:context])
        if not labelled_tokens(encoded):
            left_out.append(row.id)
            continue
        prompt = None if row.messages is None else encode_prompt(tokenizer, split_last_turn(row)[0])
        if prompt is not None and room_for_answer(network, prompt, max_new_tokens) < 1:
            prompt = None
        examples.append(_Example(row, encoded, len(encoded.token_ids) < len(whole.token_ids), prompt))
    return examples, left_out


def _losses(network: Any, examples: list[_Example]) -> list[ExampleLoss]:
    total = len(examples)
    losses = example_losses(
        network,
        [example.encoded for example in examples],
        advance=lambda done: progress.advance(done, total, "examples scored"),
    )
    broken = [
        f"{example.row.id} ({example.row.origin})"
        for example, loss in zip(examples, losses, strict=True)
        if not math.isfinite(loss.nats)
    ]
    if broken:
        raise ValidationError(
            f"the loss of {len(broken)} of {total} examples is not a number: {', '.join(broken[:5])}. "
            f"The model's arithmetic overflows in {network.dtype}, or its weights are damaged: "
            "set model.compute_dtype=float32, or look at the training's loss curve"
        )
    return losses


def _answers(
    network: Any, tokenizer: PreTrainedTokenizerBase, examples: list[_Example], config: EvaluateConfig
) -> list[_Answer | None]:
    """Answers to the prompts that there are, with white space at the ends taken off."""
    prompts = {i: example.prompt for i, example in enumerate(examples) if example.prompt is not None}
    stop_ids = stop_token_ids(tokenizer, network.generation_config)
    found = greedy_answers(
        network,
        list(prompts.values()),
        stop_ids=stop_ids,
        batch_size=config.batch_size,
        max_new_tokens=config.max_new_tokens,
        advance=lambda done: progress.advance(done, len(prompts), "examples answered"),
    )
    answers = {i: _read_answer(tokenizer, ids, stop_ids) for i, ids in zip(prompts, found, strict=True)}
    return [answers.get(i) for i in range(len(examples))]


def _read_answer(tokenizer: PreTrainedTokenizerBase, token_ids: list[int], stop_ids: list[int]) -> _Answer:
    finished = token_ids[-1] in stop_ids
    text = tokenizer.decode(token_ids[:-1] if finished else token_ids, skip_special_tokens=True)
    return _Answer(str(text).strip(), finished)


def _score(example: _Example, loss: ExampleLoss, answer: _Answer | None) -> ScoredExample:
    messages, reference = split_last_turn(example.row)
    is_chat = example.row.messages is not None
    return ScoredExample(
        id=example.row.id,
        prompt=prompt_text(messages) if is_chat else None,
        reference=reference if is_chat else None,
        answer=answer.text if answer else None,
        loss=loss.nats,
        tokens=loss.tokens,
        exact_match=exact_match(answer.text, reference) if answer else None,
        token_f1=token_f1(answer.text, reference) if answer else None,
        rouge_l=rouge_l(answer.text, reference) if answer else None,
    )


def _summary(scored: list[ScoredExample]) -> dict[str, Any]:
    tokens = sum(example.tokens for example in scored)
    loss = math.fsum(example.loss for example in scored) / tokens
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),  # beyond that a float cannot hold it
        "exact_match": mean([example.exact_match for example in scored]),
        "token_f1": mean([example.token_f1 for example in scored]),
        "rouge_l": mean([example.rouge_l for example in scored]),
        "examples": len(scored),
        "tokens": tokens,
        "answered": sum(example.answer is not None for example in scored),
        "without_answer": [example.id for example in scored if example.answer is None],
    }


def _tell(report: EvaluateReport) -> None:
    """Say what a person has to know to read the figures, and the figures."""
    if report.cut:
        progress.note(f"{report.cut} examples are longer than the model's context: scored up to its end")
    if report.left_out:
        progress.note(f"{len(report.left_out)} examples have their answer beyond the context: left out")
    if report.without_answer:
        progress.note(
            f"{len(report.without_answer)} examples are plain text or fill the context with their prompt: "
            "only their loss counts"
        )
    if report.unfinished:
        progress.note(f"{report.unfinished} answers did not end within evaluation.max_new_tokens")
    progress.headline(report.headline())
