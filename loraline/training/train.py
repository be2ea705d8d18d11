"""The training loop.

A forward pass computes packed rows of whole sequences (sampler.py, collator.py) under block-diagonal causal attention
(packing/), and the loss at the label positions alone (loss.py). The base model stays frozen in 16 bit; the adapter's
weights are float32, and everything around them runs in the base's dtype (fused_lora.py). The loss of an optimizer step
is the mean over all its labels, however they are split into forward passes and over processes (distributed.py).

What a step computes depends on its number, the settings and the content of the rows alone, so that a run that was
killed resumes from its checkpoint (checkpoint.py) to the adapter that it would have had.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from loraline import progress
from loraline.artifacts.dataset_files import EVAL_ROWS, TRAIN_ROWS
from loraline.artifacts.training import StepMetrics, TrainReport
from loraline.data.chat_template import template_name
from loraline.data.rows import Row, read_rows
from loraline.errors import DatasetError, TrainingError
from loraline.merging.serving_prompts import check_served_prompts
from loraline.models.folder import load_tokenizer
from loraline.tracking import Tracker
from loraline.training.adapter import save_adapter
from loraline.training.checkpoint import CheckpointStore, run_key
from loraline.training.checkpoint_saver import CheckpointSaver, is_due
from loraline.training.config import TrainConfig
from loraline.training.determinism import deterministic_algorithms
from loraline.training.distributed import SINGLE_PROCESS, Distributed
from loraline.training.mask_report import prompt_digests, write_mask
from loraline.training.sampler import PackedRows, micro_batches, pack_in_order, plan_steps
from loraline.training.tokenized_dataset import TokenizedDataset, tokenize
from loraline.training.train_context import TrainContext, create_context, make_checkpoint, require_same_start, resume
from loraline.training.train_report import make_report
from loraline.training.train_state import TrainState
from loraline.training.train_step import evaluate_loss, train_step, try_step

_MAX_EVAL_ROWS = 500  # those with the lowest ids: enough to follow training; evaluate_model scores all
_STEPS_SEARCHED = 32  # the first steps, for the micro-batch with the most sequences


def train(
    config: TrainConfig,
    model: Path,
    dataset: Path,
    output: Path,
    checkpoints: str = "",
    tracker: Tracker | None = None,
    distributed: Distributed = SINGLE_PROCESS,
) -> TrainReport:
    """Train an adapter for a base model on a prepared dataset.

    Args:
        config: the settings.
        model: a model folder, as load_model writes it; quantized or not.
        dataset: a dataset folder, as prepare_dataset writes it.
        output: folder for the adapter, training.json, mask.json and mask.html; it is created.
        checkpoints: folder or `s3://bucket/prefix` in which this run saves and looks for checkpoints. Empty: none.
        tracker: receives parameters and metrics.
        distributed: the processes that train together. Each calls this function, with the same arguments.

    Raises:
        TrainingError: no token carries loss or one has no embedding, the loss is not finite, an adapter layer has no
            gradient, or processes do not begin with the same adapter.
        DatasetError: early stopping without evaluation rows.
        ConfigurationError: a target module that the model does not have.
        StorageError: it cannot be found out whether there is a checkpoint to resume from.
    """
    tracker = tracker or Tracker(None, "")
    tokenizer = load_tokenizer(model)
    rows = [row for row in read_rows(dataset / TRAIN_ROWS) for _ in range(row.copies)]
    eval_rows = read_rows(dataset / EVAL_ROWS)
    data = _prepare_data(config, tokenizer, rows, eval_rows)
    if distributed.is_main_process:
        _tell_about_rows(data.train_set)
        check_served_prompts(model, prompt_digests(tokenizer, eval_rows), eval_rows)
    distributed.note_idle_processes(max(map(len, data.steps)))
    context = create_context(config, model, data.train_set, distributed, data.eval_set)

    store = CheckpointStore(checkpoints, run_key(config, model, [*rows, *eval_rows]))
    micro_batch = _fullest_micro_batch(data.steps, config)
    with deterministic_algorithms(context.device, lambda: try_step(context, data.train_set, micro_batch)):
        state = _resume_or_start(store, context, data, tracker)
        require_same_start(context, state)
        resumed_from = state.step or None
        tracker.params({**config.model_dump(), "examples": len(data.train_set), "steps": len(data.steps)})
        with CheckpointSaver(store, config, data.epoch_ends) as saver:
            _train_until_the_end(context, data, state, tracker, saver)

    report = make_report(context, state, data.train_set, data.steps, micro_batch, resumed_from, model)
    if distributed.is_main_process:
        _save_adapter_and_report(context, state, report, output)
        write_mask(tokenizer, data.train_set, micro_batch, eval_rows, context.packing, output)
    return report


def _train_until_the_end(
    context: TrainContext, data: "_TrainingData", state: TrainState, tracker: Tracker, saver: CheckpointSaver
) -> None:
    """Do the steps that are left, with their evaluations and checkpoints."""
    config, total_steps = context.config, len(data.steps)
    stop = state.stops_early(config.early_stopping_patience)
    while state.step < total_steps and not stop:
        metrics = train_step(context, data.train_set, data.steps[state.step], state, total_steps)
        if data.packed_eval_rows and is_due(config.eval_steps, state.step, data.epoch_ends):
            eval_loss = evaluate_loss(context, data.eval_set, data.packed_eval_rows)
            metrics = metrics.model_copy(update={"eval_loss": eval_loss})
            state.record_evaluation(eval_loss, context.model, keep_best=config.early_stopping_patience > 0)
        stop = state.stops_early(config.early_stopping_patience)
        state.history.append(metrics)
        _report_progress(metrics, state, total_steps, tracker)
        if context.distributed.is_main_process:
            saver.after_step(
                state.step, lambda: make_checkpoint(state, context), is_last=stop or state.step == total_steps
            )


def _tell_about_rows(train_set: TokenizedDataset) -> None:
    """Note what the chat template and the tokenizer make of the rows."""
    if train_set.silent:
        progress.note(
            f"{train_set.silent} of {len(train_set)} rows have answers that carry no loss: the chat template writes "
            "them otherwise in a longer conversation than after their own prompt"
        )
    if train_set.joined:
        progress.note(
            f"{train_set.joined} of {len(train_set)} rows are tokenized in two pieces, prompt and last answer, and "
            "only that answer carries loss: the tokenizer would merge across, or gives no character offsets"
        )


class _TrainingData(NamedTuple):
    """Tokenized rows, and the plan of the optimizer steps."""

    train_set: TokenizedDataset
    eval_set: TokenizedDataset
    steps: list[PackedRows]
    """The packed rows of each optimizer step."""
    epoch_ends: list[int]
    """Number of steps done at each epoch's end."""
    packed_eval_rows: PackedRows
    """Empty where there are no evaluation rows."""


def _prepare_data(
    config: TrainConfig, tokenizer: PreTrainedTokenizerBase, rows: list[Row], eval_rows: list[Row]
) -> _TrainingData:
    train_set = tokenize(tokenizer, rows, config.max_length)
    eval_set = tokenize(tokenizer, eval_rows[:_MAX_EVAL_ROWS], config.max_length)
    if not len(train_set):
        template = f"{template_name(tokenizer)} of {tokenizer.name_or_path}"
        raise TrainingError(
            f"no token of the {train_set.dropped} training rows carries loss, with {template} and "
            f"training.max_length={config.max_length}: look at the rows' answers, and whether prompts alone fill "
            "the length"
        )
    if config.early_stopping_patience and not len(eval_set):
        raise DatasetError(
            f"training.early_stopping_patience={config.early_stopping_patience} needs evaluation rows, and there are "
            "none that carry loss; set it to 0, or raise data.eval_fraction"
        )
    return _TrainingData(train_set, eval_set, *plan_steps(train_set, config), pack_in_order(eval_set, config))


def _resume_or_start(
    store: CheckpointStore, context: TrainContext, data: _TrainingData, tracker: Tracker
) -> TrainState:
    """Resume from the newest checkpoint, or start with an evaluation of the base model."""
    state = resume(store, context)
    if state:
        progress.note(f"training resumes from step {state.step}")
        return state
    state = TrainState()
    if data.packed_eval_rows:
        eval_loss = evaluate_loss(context, data.eval_set, data.packed_eval_rows)
        state.history.append(StepMetrics(step=0, eval_loss=eval_loss))
        tracker.metrics({"eval_loss": eval_loss}, 0)
    return state


def _report_progress(metrics: StepMetrics, state: TrainState, total_steps: int, tracker: Tracker) -> None:
    assert metrics.loss is not None, "train_step raises where the loss is not finite"
    tracker.metrics(metrics.model_dump(exclude={"step"}, exclude_none=True), state.step)
    progress.advance(state.step, total_steps, "steps", loss=metrics.loss, tokens_per_second=state.tokens_per_second)


def _save_adapter_and_report(context: TrainContext, state: TrainState, report: TrainReport, output: Path) -> None:
    state.restore_best_adapter(context.model)
    report.save(output)
    save_adapter(context.model, output)
    progress.headline(f"loss {report.final_loss:.3f}, {report.tokens_per_second:,.0f} tokens/s")


def _fullest_micro_batch(steps: list[PackedRows], config: TrainConfig) -> np.ndarray:
    """Return the micro-batch with the most sequences among those of the first steps: the indices of its sequences."""
    return max((one for rows in steps[:_STEPS_SEARCHED] for one in micro_batches(rows, config.batch_size)), key=len)
