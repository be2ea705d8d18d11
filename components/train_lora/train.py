"""The training loop, top to bottom.

One forward pass takes a row of whole documents (batches.py) that cannot see one another (attention.py), and
computes the loss at the labelled positions alone (loss.py). The base stays frozen in 16 bit; the adapter's weights
are fp32, and everything around them runs in the base's type (adapter.py). The loss of an optimizer step is the
mean over all its labelled tokens, however they fall into forward passes.

What happens in a step depends on the step's number, the settings and the rows' content alone, so a run that
was killed goes on from its checkpoint (checkpoint.py) to the adapter it would have had.
"""

import dataclasses
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import set_seed
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from components.shared import progress
from components.shared.chat import template_name
from components.shared.code import json_digest, library_versions
from components.shared.digests import digest_folder
from components.shared.errors import DatasetError, TrainingError
from components.shared.model_folder import load_tokenizer, read_manifest
from components.shared.models import load_model
from components.shared.rows import read_rows
from components.shared.tracking import Tracker
from components.train_lora import adapter, report
from components.train_lora.attention import packed
from components.train_lora.batches import Documents, Step, collate, encode, plan, plan_evaluation
from components.train_lora.checkpoint import CheckpointStore
from components.train_lora.config import TrainConfig
from components.train_lora.isolation import enable_packing
from components.train_lora.loss import LossHead
from components.train_lora.report import TrainReport
from components.train_lora.schedule import learning_rate

_EVAL_EXAMPLES = 500  # rows, those with the lowest id: enough to steer by, and evaluate_model takes all


@dataclass
class Position:
    """Where training is; with weights, optimizer and random numbers, all that a checkpoint holds."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    tokens: int = 0
    labelled: int = 0
    places: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    evaluations_without_gain: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Tokens, padding not counted, in a second of training steps so far."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass
class _Machine:
    """What computes: the model with its adapter, its loss, and the optimizer."""

    config: TrainConfig
    network: PeftModel
    head: LossHead
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    packing: bool
    device: torch.device


def train(
    config: TrainConfig,
    model: Path,
    dataset: Path,
    output: Path,
    checkpoints: str = "",
    code: str = "",
    tracker: Tracker | None = None,
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

    Raises:
        TrainingError: nothing to learn from, a loss that is not a number, or an adapter without gradients.
        ConfigurationError: a target module that the model does not have.
    """
    tracker = tracker or Tracker(None, "")  # which takes figures and keeps none
    tokenizer = load_tokenizer(model)
    rows, eval_rows = read_rows(dataset / "train.parquet"), read_rows(dataset / "eval.parquet")
    documents = encode(tokenizer, rows, config.max_length)
    eval_documents = encode(tokenizer, eval_rows[:_EVAL_EXAMPLES], config.max_length)
    _check_documents(config, documents, eval_documents, f"{template_name(tokenizer)} of {model}")
    steps, epoch_ends = plan(documents, config)
    eval_passes = plan_evaluation(eval_documents, config)
    machine, obstacle = _assemble(config, model, documents)

    store = CheckpointStore(checkpoints, _key(config, model, [row.id for row in [*rows, *eval_rows]], code))
    now = _resume(store, machine) or Position()
    resumed_from = now.step or None
    if resumed_from:
        progress.note(f"training goes on from step {now.step} of {len(steps)}")
    elif eval_passes:
        now.history.append({"step": 0, "eval_loss": _evaluate(machine, eval_documents, eval_passes)})
        tracker.metrics({"eval_loss": now.history[0]["eval_loss"]}, 0)
    tracker.params({**config.model_dump(), "examples": len(documents), "steps": len(steps)})

    while now.step < len(steps) and not _is_enough(config, now):
        figures = _step(machine, documents, steps[now.step], now, len(steps))
        if eval_passes and _is_due(config.eval_every, now.step, epoch_ends):
            figures["eval_loss"] = _evaluate(machine, eval_documents, eval_passes)
            _compare(config, now, figures["eval_loss"], machine)
        now.history.append(figures)
        tracker.metrics({name: value for name, value in figures.items() if name != "step"}, now.step)
        progress.advance(now.step, len(steps), "steps", loss=figures["loss"], tokens_per_second=now.tokens_per_second)
        if _is_due(config.checkpoint_every, now.step, epoch_ends) or _is_enough(config, now):
            store.save(now.step, _state(now, machine))

    summary = _summarize(machine, now, documents, steps, epoch_ends, obstacle, resumed_from, model)
    _leave(machine, now, summary, output)
    report.write_mask(tokenizer, documents, output)
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


def _assemble(config: TrainConfig, folder: Path, documents: Documents) -> tuple[_Machine, str]:
    """Load the base, put the adapter on it and make the rest; and why rows cannot be packed, if they cannot."""
    base = cast(PreTrainedModel, load_model(folder))
    obstacle = enable_packing(base)
    if obstacle:
        progress.note(f"documents are not packed but padded, because {obstacle}")
    set_seed(config.seed)  # here and not before: what loading does with random numbers is of no consequence
    network = adapter.attach(base, config)
    batch = collate(documents, np.array([0]), base.device, packing=not obstacle)[0]
    with packed(batch.layout):
        head = LossHead(base, batch)
    if config.gradient_checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(adapter.trained(network).values(), weight_decay=config.weight_decay, fused=True)
    scaler = torch.amp.GradScaler(base.device.type, enabled=base.dtype == torch.float16 and base.device.type == "cuda")
    return _Machine(config, network, head, optimizer, scaler, not obstacle, base.device), obstacle


def _key(config: TrainConfig, model: Path, ids: list[str], code: str) -> str:
    """Digest of all that the adapter depends on."""
    manifest = read_manifest(model).model_dump(exclude={"plan", "taken"})
    identity = manifest if manifest["digest"] else digest_folder(model)
    return json_digest([config.model_dump(), identity, ids, code, library_versions()])


def _step(machine: _Machine, documents: Documents, step: Step, now: Position, total: int) -> dict[str, float]:
    """Do one optimizer step: its forward and backward passes, and the adapter's move."""
    config, optimizer, scaler = machine.config, machine.optimizer, machine.scaler
    started = time.perf_counter()
    machine.network.train()
    batches = [b for chosen in step for b in collate(documents, chosen, machine.device, machine.packing)]
    labelled = sum(len(batch.targets) for batch in batches)
    loss = torch.zeros((), device=machine.device)
    for batch in batches:
        with packed(batch.layout):
            part = machine.head(batch) / labelled
            scaler.scale(part).backward()
        loss += part.detach()
    if now.step == 0:
        adapter.check_gradients(machine.network)
    scaler.unscale_(optimizer)
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(weights, config.gradient_clipping or math.inf)
    loss_value, norm_value = torch.stack([loss, norm]).tolist()
    _check_finite(loss_value, norm_value, machine, now.step + 1, [documents.origins[i] for i in step[0][:3]])
    rate = learning_rate(config, now.step, total)
    for group in optimizer.param_groups:
        group["lr"] = rate
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)

    seconds, tokens = time.perf_counter() - started, sum(batch.tokens for batch in batches)
    now.step += 1
    now.tokens += tokens
    now.labelled += labelled
    now.places += sum(batch.places for batch in batches)
    now.seconds += seconds
    return {
        "step": now.step,
        "loss": loss_value,
        "learning_rate": rate,
        "gradient_norm": norm_value,
        "tokens_per_second": tokens / seconds,
    }


def _check_finite(loss: float, norm: float, machine: _Machine, step: int, origins: list[str]) -> None:
    # With fp16 a gradient may overflow: the scaler then skips the step and scales less.
    if math.isfinite(loss) and (math.isfinite(norm) or machine.scaler.is_enabled()):
        return
    raise TrainingError(
        f"step {step}: the loss is {loss} and the gradient's norm {norm}, with a learning rate of "
        f"{machine.config.learning_rate}; lower training.learning_rate, set model.compute_dtype to bfloat16 or "
        f"float32, or look at the step's rows, the first of which are {', '.join(origins)}"
    )


@torch.no_grad()
def _evaluate(machine: _Machine, documents: Documents, passes: Step) -> float:
    """Mean loss of the labelled tokens of all documents, in nats."""
    machine.network.eval()
    total = torch.zeros((), device=machine.device)
    for chosen in passes:
        for batch in collate(documents, chosen, machine.device, machine.packing):
            with packed(batch.layout):
                total += machine.head(batch)
    return float(total) / int(documents.labelled.sum())


def _is_due(every: int, step: int, epoch_ends: list[int]) -> bool:
    """Whether something that happens every so many steps (0: at each epoch's end) happens now; at the end it does."""
    return step == epoch_ends[-1] or (step % every == 0 if every else step in epoch_ends)


def _is_enough(config: TrainConfig, now: Position) -> bool:
    patience = config.early_stopping_patience
    return bool(patience) and now.evaluations_without_gain >= patience


def _compare(config: TrainConfig, now: Position, loss: float, machine: _Machine) -> None:
    """Take note of whether an evaluation is the best so far; with early stopping, keep that adapter."""
    if loss < now.best_loss:
        now.best_loss, now.best_step, now.evaluations_without_gain = loss, now.step, 0
        if config.early_stopping_patience:
            now.best_weights = adapter.snapshot(machine.network)
    else:
        now.evaluations_without_gain += 1


def _state(now: Position, machine: _Machine) -> dict[str, Any]:
    """All that a checkpoint holds."""
    return {
        "position": {f.name: getattr(now, f.name) for f in dataclasses.fields(now)},
        "weights": adapter.snapshot(machine.network),
        "optimizer": machine.optimizer.state_dict(),
        "scaler": machine.scaler.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if machine.device.type == "cuda" else [],
    }


def _resume(store: CheckpointStore, machine: _Machine) -> Position | None:
    """Bring back the newest checkpoint, if there is one."""
    state = store.latest()
    if state is None:
        return None
    adapter.restore(machine.network, state["weights"])
    machine.optimizer.load_state_dict(state["optimizer"])
    machine.scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["random"])
    if machine.device.type == "cuda":
        torch.cuda.set_rng_state_all(state["random_cuda"])
    return Position(**state["position"])


def _leave(machine: _Machine, now: Position, summary: TrainReport, output: Path) -> None:
    """Write the adapter that is kept, and the report."""
    if now.best_weights:
        adapter.restore(machine.network, now.best_weights)
    output.mkdir(parents=True, exist_ok=True)
    adapter.save(machine.network, output)
    report.write(summary, output)
    progress.headline(f"loss {summary.final_loss:.3f}, {summary.tokens_per_second:,.0f} tokens/s")


def _summarize(
    machine: _Machine,
    now: Position,
    documents: Documents,
    steps: list[Step],
    epoch_ends: list[int],
    obstacle: str,
    resumed_from: int | None,
    model: Path,
) -> TrainReport:
    seen = sum(len(chosen) for step in steps[: now.step] for chosen in step)
    losses = [figures["loss"] for figures in now.history if "loss" in figures]
    parameters = list(machine.network.parameters())
    return TrainReport(
        base_digest=read_manifest(model).digest,
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
        device=str(machine.device),
        dtype=str(machine.network.get_base_model().dtype).removeprefix("torch."),
        attention=f"padded documents: {obstacle}" if obstacle else "packed documents, each attended by itself",
        loss_head="labelled positions, in chunks" if machine.head.chunked else "the model's own",
        peak_memory_bytes=report.peak_memory(machine.device),
        resumed_from=resumed_from,
        versions=library_versions(),
    )
