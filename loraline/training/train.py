"""The training loop, top to bottom.

One forward pass takes a row of whole documents (batches.py) that cannot see one another (attention.py), and
computes the loss at the labelled positions alone (loss.py). The base stays frozen in 16 bit; the adapter's weights
are fp32, and everything around them runs in the base's type (adapter.py). The loss of an optimizer step is the
mean over all its labelled tokens, however they fall into forward passes, and whoever computes these: several
processes each take some of a step's rows (distributed.py), and the first of them keeps, tells and writes.

What happens in a step depends on the step's number, the settings and the rows' content alone, so a run that
was killed goes on from its checkpoint (checkpoint.py) to the adapter it would have had.
"""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loraline import progress
from loraline.artifacts.dataset_files import EVAL_ROWS, TRAIN_ROWS
from loraline.artifacts.training import TrainReport
from loraline.data.chat import template_name
from loraline.data.rows import read_rows
from loraline.errors import DatasetError, TrainingError
from loraline.identity.libraries import library_versions
from loraline.models.folder import load_tokenizer, read_manifest
from loraline.tracking import Tracker
from loraline.training import adapter
from loraline.training import train_report as report
from loraline.training.checkpoint import CheckpointStore, run_key
from loraline.training.collator import Documents, Step, collate, encode, passes, plan, plan_evaluation
from loraline.training.config import TrainConfig
from loraline.training.distributed import ALONE, Ranks
from loraline.training.lr_scheduler import learning_rate
from loraline.training.mask_report import write_mask
from loraline.training.packing.attention import packed
from loraline.training.packing.packing_check import check_packing
from loraline.training.train_context import Machine, Position, assemble, resume, state

_STEPS_LOOKED_AT = 32
_EVAL_EXAMPLES = 500  # rows, those with the lowest id: enough to steer by, and evaluate_model takes all


def train(
    config: TrainConfig,
    model: Path,
    dataset: Path,
    output: Path,
    checkpoints: str = "",
    code: str = "",
    tracker: Tracker | None = None,
    ranks: Ranks = ALONE,
) -> TrainReport:
    """Train an adapter for a model on a prepared dataset.

    Args:
        config: the settings.
        model: a model folder, as load_model writes it; quantized or not.
        dataset: a dataset folder, as prepare_dataset writes it.
        output: folder for the adapter, training.json and mask.json; it is made.
        checkpoints: folder or `s3://bucket/prefix` where this run keeps its state and looks for it. Empty: nowhere.
        code: digest of the code; a checkpoint of other code is not used.
        tracker: where curves go.
        ranks: the processes that train together. Each calls this function, with the same arguments.

    Raises:
        TrainingError: nothing to learn from, a loss that is not a number, or an adapter without gradients.
        ConfigurationError: a target module that the model does not have.
    """
    tracker = tracker or Tracker(None, "")  # which takes figures and keeps none
    tokenizer = load_tokenizer(model)
    rows, eval_rows = read_rows(dataset / TRAIN_ROWS), read_rows(dataset / EVAL_ROWS)
    documents = encode(tokenizer, rows, config.max_length)
    eval_documents = encode(tokenizer, eval_rows[:_EVAL_EXAMPLES], config.max_length)
    _check_documents(config, documents, eval_documents, f"{template_name(tokenizer)} of {model}")
    steps, epoch_ends = plan(documents, config)
    held_out = plan_evaluation(eval_documents, config)
    ranks.note_idle(max(map(len, steps)))
    machine = assemble(config, model, documents, ranks)

    store = CheckpointStore(checkpoints, run_key(config, model, [*rows, *eval_rows], code))
    now = _begin(store, machine, eval_documents, held_out, tracker)
    resumed_from = now.step or None
    tracker.params({**config.model_dump(), "examples": len(documents), "steps": len(steps)})

    while now.step < len(steps) and not _is_enough(config, now):
        figures = _step(machine, documents, steps[now.step], now, len(steps))
        if held_out and _is_due(config.eval_steps, now.step, epoch_ends):
            figures["eval_loss"] = _evaluate(machine, eval_documents, held_out)
            _compare(config, now, figures["eval_loss"], machine)
        now.history.append(figures)
        tracker.metrics({name: value for name, value in figures.items() if name != "step"}, now.step)
        progress.advance(now.step, len(steps), "steps", loss=figures["loss"], tokens_per_second=now.tokens_per_second)
        if ranks.leads and (_is_due(config.save_steps, now.step, epoch_ends) or _is_enough(config, now)):
            store.save(now.step, state(now, machine))

    summary = _summarize(machine, now, documents, steps, resumed_from, model)
    if ranks.leads:
        _leave(machine, now, summary, output)
        write_mask(tokenizer, documents, _fullest_pass(steps, config), eval_rows, machine.packing, output)
    return summary


def _check_documents(config: TrainConfig, documents: Documents, eval_documents: Documents, template: str) -> None:
    if not len(documents):
        raise TrainingError(
            f"no token of the {documents.dropped} training rows carries loss, with {template} and "
            f"training.max_length={config.max_length}: look at the rows' answers, and whether prompts alone fill "
            "the length"
        )
    if config.early_stopping_patience and not len(eval_documents):
        raise DatasetError(
            f"training.early_stopping_patience={config.early_stopping_patience} needs evaluation rows, and there are "
            "none that carry loss; set it to 0, or raise data.eval_fraction"
        )


def _begin(store: CheckpointStore, machine: Machine, documents: Documents, rows: Step, tracker: Tracker) -> Position:
    """Take up the last checkpoint, or begin with an evaluation of the base."""
    kept = resume(store, machine)
    if kept:
        progress.note(f"training goes on from step {kept.step}")
        return kept
    now = Position()
    if rows:
        now.history.append({"step": 0, "eval_loss": _evaluate(machine, documents, rows)})
        tracker.metrics({"eval_loss": now.history[0]["eval_loss"]}, 0)
    return now


def _step(machine: Machine, documents: Documents, step: Step, now: Position, total: int) -> dict[str, float]:
    """Do one optimizer step: the forward and backward passes over this rank's rows, and the adapter's move."""
    config, optimizer, scaler, ranks = machine.config, machine.optimizer, machine.scaler, machine.ranks
    started = time.perf_counter()
    machine.network.train()
    ranks.seed(config.seed, now.step)
    everything = np.concatenate(step)  # the documents of all ranks
    labelled, tokens = int(documents.labelled[everything].sum()), int(documents.lengths[everything].sum())
    mine = passes(ranks.share(step), config.batch_size)
    batches = [b for chosen in mine for b in collate(documents, chosen, machine.device, machine.packing)]
    loss = torch.zeros((), device=machine.device)
    for batch in batches:
        with packed(batch.layout):
            part = machine.head(batch) / labelled
            scaler.scale(part).backward()
        loss += part.detach()
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    loss, places = ranks.add_up(weights, loss, sum(batch.places for batch in batches))
    if now.step == 0:
        adapter.check_gradients(machine.network)
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(weights, config.max_grad_norm or math.inf)
    loss_value, norm_value = torch.stack([loss, norm]).tolist()
    _check_finite(loss_value, norm_value, machine, now.step + 1, [documents.origins[i] for i in step[0][:3]])
    rate = learning_rate(config, now.step, total)
    for group in optimizer.param_groups:
        group["lr"] = rate
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)

    seconds = time.perf_counter() - started
    now.step += 1
    now.tokens += tokens
    now.labelled += labelled
    now.places += places
    now.seconds += seconds
    return {
        "step": now.step,
        "loss": loss_value,
        "learning_rate": rate,
        "gradient_norm": norm_value,
        "tokens_per_second": tokens / seconds,
    }


def _check_finite(loss: float, norm: float, machine: Machine, step: int, origins: list[str]) -> None:
    # With fp16 a gradient may overflow: the scaler then skips the step and scales less.
    if math.isfinite(loss) and (math.isfinite(norm) or machine.scaler.is_enabled()):
        return
    raise TrainingError(
        f"step {step}: the loss is {loss} and the gradient's norm {norm}, with a learning rate of "
        f"{machine.config.learning_rate}; lower training.learning_rate, set model.compute_dtype to bfloat16 or "
        f"float32, or look at the step's rows, the first of which are {', '.join(origins)}"
    )


@torch.no_grad()
def _evaluate(machine: Machine, documents: Documents, rows: Step) -> float:
    """Mean loss of the labelled tokens of all documents, in nats."""
    machine.network.eval()
    total = torch.zeros((), device=machine.device)
    for chosen in passes(machine.ranks.share(rows), machine.config.batch_size):
        for batch in collate(documents, chosen, machine.device, machine.packing):
            with packed(batch.layout):
                total += machine.head(batch)
    return machine.ranks.total(float(total)) / int(documents.labelled.sum())


def _is_due(every: int, step: int, epoch_ends: list[int]) -> bool:
    """Whether something that happens every so many steps (0: at each epoch's end) happens now; at the end it does."""
    return step == epoch_ends[-1] or (step % every == 0 if every else step in epoch_ends)


def _is_enough(config: TrainConfig, now: Position) -> bool:
    patience = config.early_stopping_patience
    return bool(patience) and now.evaluations_without_gain >= patience


def _compare(config: TrainConfig, now: Position, loss: float, machine: Machine) -> None:
    """Take note of whether an evaluation is the best so far; with early stopping, keep that adapter."""
    if loss < now.best_loss:
        now.best_loss, now.best_step, now.evaluations_without_gain = loss, now.step, 0
        if config.early_stopping_patience:
            now.best_weights = adapter.snapshot(machine.network)
    else:
        now.evaluations_without_gain += 1


def _leave(machine: Machine, now: Position, summary: TrainReport, output: Path) -> None:
    """Write the adapter that is kept, and the report."""
    if now.best_weights:
        adapter.restore(machine.network, now.best_weights)
    output.mkdir(parents=True, exist_ok=True)
    adapter.save(machine.network, output)
    summary.save(output)
    progress.headline(f"loss {summary.final_loss:.3f}, {summary.tokens_per_second:,.0f} tokens/s")


def _fullest_pass(steps: list[Step], config: TrainConfig) -> np.ndarray:
    """Documents of the forward pass that had the most of them, among those of the first steps."""
    return max((some for step in steps[:_STEPS_LOOKED_AT] for some in passes(step, config.batch_size)), key=len)


def _summarize(
    machine: Machine,
    now: Position,
    documents: Documents,
    steps: list[Step],
    resumed_from: int | None,
    model: Path,
) -> TrainReport:
    seen = sum(len(chosen) for step in steps[: now.step] for chosen in step)
    losses = [figures["loss"] for figures in now.history if "loss" in figures]
    parameters = list(machine.network.parameters())
    packing = None
    if machine.packing:
        packing = check_packing(machine.network, machine.head, documents, _fullest_pass(steps, machine.config))
    return TrainReport(
        base_digest=read_manifest(model).digest,
        quantization=read_manifest(model).quantization,
        steps=now.step,
        planned_steps=len(steps),
        epochs=seen / len(documents),
        final_loss=losses[-1],
        best_eval_loss=None if math.isinf(now.best_loss) else now.best_loss,
        kept_step=now.best_step if now.best_weights else now.step,
        history=now.history,
        examples=len(documents),
        truncated=documents.truncated,
        dropped=documents.dropped,
        tokens=now.tokens,
        labelled_tokens=now.labelled,
        padding_fraction=1 - now.tokens / now.places,
        masked_fraction=report.masked_fraction(documents),
        tokens_per_second=now.tokens_per_second,
        seconds=now.seconds,
        trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        total_parameters=sum(p.numel() for p in parameters),
        processes=machine.ranks.count,
        device=str(machine.device),
        dtype=str(machine.network.get_base_model().dtype).removeprefix("torch."),
        attention=_attention(machine),
        packing=packing,
        loss_head="labelled positions, in chunks" if machine.head.chunked else "the model's own",
        peak_memory_bytes=report.peak_memory(machine.device),
        resumed_from=resumed_from,
        versions=library_versions("train_lora"),
    )


def _attention(machine: Machine) -> str:
    """The attention implementation, and how the sequences of a batch are laid out."""
    if not machine.obstacle:
        return "packed sequences, block-diagonal causal"
    base: Any = machine.network.get_base_model()
    return f"{base.config._attn_implementation}, padded sequences: {machine.obstacle}"
