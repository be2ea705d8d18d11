"""The training loop in one function, for whoever wants to change it.

It computes what `loraline.training.train` computes on one device, from the same parts, and leaves out what surrounds
that: evaluation, early stopping, data parallel training, float16, metrics and reports. Copy it and change what you
like. Its checkpoints are kept by settings, base, rows and the text of this file: a changed loop resumes no old run.

    python -c 'from loraline import FineTune; print(FineTune("scratch:dates", "my.jsonl").prepare().folder)'
    python examples/train_flat.py scratch:dates FOLDER out max_steps=100 batch_size=1 save_steps=25
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import yaml
from accelerate.utils import set_seed
from transformers import PreTrainedModel

from loraline.artifacts.dataset_files import TRAIN_ROWS
from loraline.data.rows import read_rows
from loraline.finetune.inputs import cached_base
from loraline.identity.digests import json_digest
from loraline.models.folder import load_tokenizer
from loraline.models.load import load_model
from loraline.recipe import Recipe
from loraline.training.adapter import adapter_state, add_adapter, check_gradients, load_adapter_state, save_adapter
from loraline.training.checkpoint import CheckpointStore, run_key
from loraline.training.collator import collate
from loraline.training.config import TrainConfig
from loraline.training.loss import CausalLMLoss
from loraline.training.lr_scheduler import learning_rate
from loraline.training.packing.bin_packing import shuffled_rows
from loraline.training.packing.packed_sequences import use_packed_sequences
from loraline.training.packing.packing_support import enable_packing
from loraline.training.tokenized_dataset import tokenize

NOT_USED = {"eval_steps", "early_stopping_patience", "nodes", "save_minutes"}


def train(config: TrainConfig, model_folder: Path, dataset_folder: Path, output: Path) -> list[float]:
    """Train an adapter, save it in `output`, and return the loss of each optimizer step, in nats per label."""
    # Data: token ids and loss mask of all rows, in flat arrays. Rows without a label are left out.
    rows = read_rows(dataset_folder / TRAIN_ROWS)
    dataset = tokenize(load_tokenizer(model_folder), rows, config.max_length)

    # Schedule: in each epoch all sequences are shuffled and packed into rows of at most max_length tokens, and so many
    # packed rows make one optimizer step. It depends on seed and rows alone, so that a run can resume.
    rows_per_step = config.batch_size * config.gradient_accumulation_steps
    steps: list[list[np.ndarray]] = []
    for epoch in range(config.epochs):
        packed = shuffled_rows(dataset.lengths, config.max_length, config.seed, epoch)
        steps += [packed[i : i + rows_per_step] for i in range(0, len(packed), rows_per_step)]
    steps = steps[: config.max_steps or None]

    # Model: a frozen base with a float32 adapter on its linear layers.
    base = cast(PreTrainedModel, load_model(model_folder))
    if base.dtype == torch.float16:
        raise SystemExit("float16 needs a gradient scaler, which this loop leaves out: use bfloat16 or float32")
    packing = not enable_packing(base)  # else the model cannot keep packed sequences separate, and they are padded
    set_seed(config.seed)  # the adapter's initial weights, and dropout
    model = add_adapter(base, config)
    example = collate(dataset, np.array([0]), base.device, packing)[0]
    with use_packed_sequences(example.packed_sequences):
        compute_loss = CausalLMLoss(base, example)  # tries out whether logits can be computed in chunks
    if config.gradient_checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})

    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)

    # Resume: weights, optimizer and random numbers as they were after the newest checkpoint's step.
    key = json_digest([run_key(config, model_folder, rows), Path(__file__).read_text(encoding="utf-8")])
    store = CheckpointStore(str(output / "checkpoints"), key)
    losses: list[float] = []
    checkpoint = store.latest()
    if checkpoint is not None:
        losses = checkpoint["losses"]
        load_adapter_state(model, checkpoint["adapter"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        torch.set_rng_state(checkpoint["rng_state"])
        if base.device.type == "cuda":
            torch.cuda.set_rng_state(checkpoint["cuda_rng_state"], base.device)

    model.train()
    for step in range(len(losses), len(steps)):
        # Forward and backward: gradients add up over the micro-batches. Each label of the step has the same weight,
        # however the labels are split, because every sum is divided by their number in the whole step.
        num_labels = int(dataset.num_labels[np.concatenate(steps[step])].sum())
        loss = torch.zeros((), device=base.device)
        for start in range(0, len(steps[step]), config.batch_size):
            sequences = np.concatenate(steps[step][start : start + config.batch_size])
            for batch in collate(dataset, sequences, base.device, packing):
                # Attention reads the boundaries of the sequences here, in the backward pass as well.
                with use_packed_sequences(batch.packed_sequences):
                    batch_loss = compute_loss(batch) / num_labels
                    batch_loss.backward()
                loss += batch_loss.detach()
        if step == 0:
            check_gradients(model)  # raises where an adapter layer would learn nothing

        # Update.
        rate = learning_rate(config, step, len(steps))
        optimizer.param_groups[0]["lr"] = rate
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm or math.inf, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss))
        print(f"step {step + 1}/{len(steps)}  loss {losses[-1]:.4f}  grad_norm {norm:.3f}  learning_rate {rate:.2e}")

        # Checkpoint.
        if (step + 1) % (config.save_steps or 100) == 0 or step + 1 == len(steps):
            checkpoint = {
                "losses": losses,
                "adapter": adapter_state(model),
                "optimizer": optimizer.state_dict(),
                "rng_state": torch.get_rng_state(),
            }
            if base.device.type == "cuda":
                checkpoint["cuda_rng_state"] = torch.cuda.get_rng_state(base.device)
            store.save(step + 1, checkpoint)

    save_adapter(model, output)
    return losses


def main(arguments: Sequence[str] | None = None) -> list[float]:
    """Read the command line and train; return the loss of each optimizer step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder, or any base that a recipe can name, such as scratch:dates")
    parser.add_argument("dataset", type=Path, help=f"a dataset folder as `prepare` writes it, with {TRAIN_ROWS}")
    parser.add_argument("output", type=Path, help="folder for the adapter and the checkpoints")
    parser.add_argument("settings", nargs="*", help="settings of training, such as learning_rate=1e-4 max_steps=100")
    options = parser.parse_args(arguments)
    values = dict(setting.split("=", 1) for setting in options.settings)
    if NOT_USED & values.keys():
        parser.error(f"this loop does not use {', '.join(sorted(NOT_USED & values.keys()))}")
    config = TrainConfig.model_validate({name: yaml.safe_load(value) for name, value in values.items()})
    folder = Path(options.model)
    if not folder.is_dir():
        folder = cached_base(Recipe.model_validate({"model": {"source": options.model}})).working
    return train(config, folder, options.dataset, options.output)


if __name__ == "__main__":
    main()
