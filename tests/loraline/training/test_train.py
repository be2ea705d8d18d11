"""Training: the loss falls, runs are reproducible bit by bit, and a killed run resumes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from loraline.artifacts.dataset_files import TRAIN_ROWS
from loraline.data import chat
from loraline.data.rows import Row, RowWriter, read_rows
from loraline.errors import ConfigurationError, DatasetError, TrainingError
from loraline.models.folder import load_tokenizer, read_manifest, write_manifest
from loraline.models.load import load_model
from loraline.training.config import TrainConfig
from loraline.training.train import train
from tests.loraline.training.conftest import chat_row, write_rows

ModelMaker = Callable[..., Path]
SMALL = TrainConfig(
    rank=4, alpha=8, learning_rate=1e-2, max_length=256, batch_size=2, epochs=2, lr_scheduler_type="linear"
)


def adapter_bytes(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes() + (folder / "adapter_config.json").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loss_falls_and_is_reported(dtype: str, make_model: ModelMaker, dataset: Path, tmp_path: Path) -> None:
    report = train(SMALL, make_model("llama", dtype), dataset, tmp_path)

    assert report.history[0].step == 0
    evaluated = [point.eval_loss for point in report.history if point.eval_loss is not None]
    assert evaluated[-1] < evaluated[0] - 0.5
    assert report.best_eval_loss == min(evaluated[1:])
    assert report.padding_fraction == 0
    assert report.steps == report.planned_steps == report.history[-1].step
    assert report.epochs == 2
    assert report.resumed_from is None
    assert report.dtype == dtype
    assert json.loads((tmp_path / "training.json").read_text())["final_loss"] == report.final_loss


def test_adapter_loads_on_its_base(make_model: ModelMaker, dataset: Path, tmp_path: Path) -> None:
    base = make_model()
    train(SMALL.model_copy(update={"max_steps": 3}), base, dataset, tmp_path)
    tuned = load_model(base, adapter=tmp_path)
    assert isinstance(tuned, PeftModel)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert len(weights) == 2 * 7 * 2  # A and B, seven linear layers, two blocks
    assert all(weight.dtype == torch.float32 and weight.any() for weight in weights.values())


def test_same_seed_gives_the_same_adapter(make_model: ModelMaker, dataset: Path, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"dropout": 0.1, "epochs": 1})
    for name in ("one", "two"):
        train(config, make_model(), dataset, tmp_path / name)
    train(config.model_copy(update={"seed": 1}), make_model(), dataset, tmp_path / "other")
    assert adapter_bytes(tmp_path / "one") == adapter_bytes(tmp_path / "two")
    assert adapter_bytes(tmp_path / "one") != adapter_bytes(tmp_path / "other")


def test_gradient_accumulation_equals_a_larger_batch(make_model: ModelMaker, dataset: Path, tmp_path: Path) -> None:
    """The gradient is weighted by tokens over the whole step, so that its split into forward passes changes nothing."""
    for name, changes in {
        "batch": {"batch_size": 4},
        "accumulated": {"batch_size": 1, "gradient_accumulation_steps": 4},
    }.items():
        config = SMALL.model_copy(update={**changes, "max_grad_norm": 0.0})
        train(config, make_model(), dataset, tmp_path / name)
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("batch", "accumulated"))
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


def test_gradient_checkpointing_does_not_change_the_adapter(
    make_model: ModelMaker, dataset: Path, tmp_path: Path
) -> None:
    config = SMALL.model_copy(update={"epochs": 1})
    train(config, make_model(), dataset, tmp_path / "plain")
    train(config.model_copy(update={"gradient_checkpointing": True}), make_model(), dataset, tmp_path / "recomputed")
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("plain", "recomputed"))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "bloom"])
def test_loss_falls_for_other_families(family: str, make_model: ModelMaker, dataset: Path, tmp_path: Path) -> None:
    report = train(SMALL, make_model(family), dataset, tmp_path)
    assert report.history[-1].eval_loss < report.history[0].eval_loss - 0.3


def test_error_for_an_adapter_that_peft_refuses(make_model: ModelMaker, dataset: Path, tmp_path: Path) -> None:
    """Mamba's kernel reads the weights of out_proj directly, without the adapter; all-linear leaves them out."""
    with pytest.raises(ConfigurationError, match="out_proj"):
        train(SMALL.model_copy(update={"target_modules": ["out_proj"]}), make_model("mamba"), dataset, tmp_path)


@pytest.mark.parametrize(
    "changes", [{"use_dora": True}, {"use_rslora": True}, {"dropout": 0.1}, {"target_modules": ["q_proj", "lm_head"]}]
)
def test_loss_falls_for_other_adapters(
    changes: dict[str, object], make_model: ModelMaker, dataset: Path, tmp_path: Path
) -> None:
    report = train(SMALL.model_copy(update=changes), make_model(), dataset, tmp_path)
    assert report.history[-1].eval_loss < report.history[0].eval_loss - 0.3
    told = json.loads((tmp_path / "adapter_config.json").read_text())
    assert told["use_dora"] == changes.get("use_dora", False)
    assert told["use_rslora"] == changes.get("use_rslora", False)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_requested_attention_implementation_trains_on_padded_sequences(
    attention: str, make_model: ModelMaker, dataset: Path, tmp_path: Path
) -> None:
    config = SMALL.model_copy(update={"max_steps": 3})
    packed = train(config, make_model(), dataset, tmp_path / "auto")
    assert packed.attention.startswith("packed sequences")
    model = Path(shutil.copytree(make_model(), tmp_path / "model"))
    write_manifest(model, read_manifest(model).model_copy(update={"attention": attention}))
    padded = train(config, model, dataset, tmp_path / attention)
    assert padded.attention.startswith(f"{attention}, padded sequences")
    assert f"model.attention={attention} was asked for" in padded.attention
    assert padded.padding_fraction > 0
    assert padded.packing is None
    losses = [[point.loss for point in report.history[1:]] for report in (packed, padded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_loss_falls_on_a_quantized_base_after_an_evaluation(
    make_model: ModelMaker, dataset: Path, tmp_path: Path
) -> None:
    """On some CPUs bitsandbytes has no gradients after a forward pass in eval mode."""
    quantized = tmp_path / "quantized"
    source = make_model("llama", "bfloat16")
    recipe = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    AutoModelForCausalLM.from_pretrained(source, quantization_config=recipe, dtype=torch.bfloat16).save_pretrained(
        quantized
    )
    chat_files = [file for file in source.iterdir() if file.name.startswith("tokenizer")]
    for file in chat_files:
        (quantized / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((source / "loraline.json").read_text())
    (quantized / "loraline.json").write_text(json.dumps({**manifest, "quantization": "nf4"}))

    report = train(SMALL, quantized, dataset, tmp_path / "adapter")
    assert report.history[0].step == 0  # the evaluation in between
    assert report.history[-1].eval_loss < report.history[0].eval_loss - 0.5


def test_early_stopping_keeps_the_best_adapter(make_model: ModelMaker, tmp_path: Path) -> None:
    wrong = [
        Row.of(messages=[{"role": "user", "content": f"copy {i}"}, {"role": "assistant", "content": "!!!"}])
        for i in range(9)
    ]
    dataset = write_rows(tmp_path / "data", [chat_row(i) for i in range(40)], wrong)
    config = SMALL.model_copy(
        update={"early_stopping_patience": 2, "eval_steps": 1, "epochs": 8, "learning_rate": 5e-2}
    )
    report = train(config, make_model(), dataset, tmp_path / "adapter")
    assert report.steps < report.planned_steps
    assert report.kept_step == report.steps - 2
    evaluated = [point.eval_loss for point in report.history if point.step and point.eval_loss is not None]
    assert report.best_eval_loss == min(evaluated)


def test_resumed_run_equals_an_uninterrupted_one(make_model: ModelMaker, dataset: Path, tmp_path: Path) -> None:
    """A process is killed with SIGKILL once it has saved a checkpoint, by time, and started again."""
    config = SMALL.model_copy(update={"epochs": 3, "dropout": 0.1, "save_minutes": 1e-5, "early_stopping_patience": 9})
    program = (
        "import sys; from pathlib import Path; from loraline.training.config import TrainConfig;"
        "from loraline.training.train import train; model, data, out, kept, config = sys.argv[1:];"
        "train(TrainConfig.model_validate_json(config), Path(model), Path(data), Path(out), kept)"
    )
    places = [str(make_model()), str(dataset), str(tmp_path / "killed"), str(tmp_path / "kept")]
    process = subprocess.Popen([sys.executable, "-c", program, *places, config.model_dump_json()], env=os.environ)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "kept").rglob("*.pt")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "training.json").exists()

    resumed = train(config, make_model(), dataset, tmp_path / "killed", str(tmp_path / "kept"))
    undisturbed = train(config, make_model(), dataset, tmp_path / "undisturbed")
    assert resumed.resumed_from
    assert resumed.resumed_from < resumed.steps
    assert adapter_bytes(tmp_path / "killed") == adapter_bytes(tmp_path / "undisturbed")
    losses = [[point.loss for point in report.history[1:]] for report in (resumed, undisturbed)]
    assert losses[0] == losses[1]


def test_no_resume_with_other_settings(make_model: ModelMaker, dataset: Path, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"max_steps": 2})
    train(config, make_model(), dataset, tmp_path / "a", str(tmp_path / "kept"))
    again = train(config, make_model(), dataset, tmp_path / "b", str(tmp_path / "kept"))
    other = train(config.model_copy(update={"rank": 2}), make_model(), dataset, tmp_path / "c", str(tmp_path / "kept"))
    assert (again.resumed_from, other.resumed_from) == (2, None)
    assert adapter_bytes(tmp_path / "a") == adapter_bytes(tmp_path / "b")


def test_order_of_the_dataset_file_does_not_matter(make_model: ModelMaker, tmp_path: Path) -> None:
    rows = [chat_row(i) for i in range(30)]
    config = SMALL.model_copy(update={"max_steps": 3})
    for name, given in {"forward": rows, "backward": rows[::-1]}.items():
        train(config, make_model(), write_rows(tmp_path / name, given, rows[:2]), tmp_path / f"{name}-adapter")
    assert adapter_bytes(tmp_path / "forward-adapter") == adapter_bytes(tmp_path / "backward-adapter")


def test_long_rows_are_truncated_and_counted(make_model: ModelMaker, tmp_path: Path) -> None:
    question = {"role": "user", "content": "q"}
    cut = Row.of(messages=[question, {"role": "assistant", "content": "y" * 500}])
    lost = Row.of(messages=[{"role": "user", "content": "q" * 500}, {"role": "assistant", "content": "y"}])
    text = Row.of(text="plain text " * 3)
    dataset = write_rows(tmp_path / "data", [cut, lost, text], [])
    report = train(SMALL, make_model(), dataset, tmp_path / "adapter")
    assert (report.examples, report.truncated, report.dropped) == (2, 2, 1)
    assert report.best_eval_loss is None
    samples = json.loads((tmp_path / "adapter" / "mask.json").read_text())["samples"]
    assert {"".join(t["text"] for t in s["tokens"] if t["loss"]) for s in samples} == {
        "y" * (256 - _prompt_tokens(make_model(), question)),
        ("plain text " * 3)[1:]
        + "</s>",  # this tokenizer sets no BOS token, after which its first one could be learned
    }


def _prompt_tokens(model: Path, question: dict[str, str]) -> int:
    return len(chat.encode_prompt(load_tokenizer(model), [question]))


def test_error_where_no_token_carries_loss(make_model: ModelMaker, tmp_path: Path) -> None:
    lost = Row.of(messages=[{"role": "user", "content": "q" * 500}, {"role": "assistant", "content": "y"}])
    dataset = write_rows(tmp_path / "data", [lost], [])
    with pytest.raises(TrainingError, match="no token of the 1 training rows carries loss, with the Alpaca template"):
        train(SMALL, make_model(), dataset, tmp_path / "adapter")


def test_error_for_a_token_that_the_base_has_no_embedding_for(
    make_model: ModelMaker, dataset: Path, tmp_path: Path
) -> None:
    """A token that was added to the tokenizer, in a row of the evaluation: before any step is done."""
    model = Path(shutil.copytree(make_model(), tmp_path / "model"))
    tokenizer = load_tokenizer(model)
    tokenizer.add_tokens([f"<|new-{i}|>" for i in range(320 - len(tokenizer))])
    tokenizer.add_tokens(["<|new|>"])  # one more than the embeddings have rows
    tokenizer.save_pretrained(model)
    added = Row.of(messages=[*chat_row(1).messages[:-1], {"role": "assistant", "content": "<|new|>"}], origin="more:7")
    rows = write_rows(tmp_path / "data", [chat_row(i) for i in range(9)], [chat_row(9), added])
    with pytest.raises(TrainingError, match=r"more:7 has the token id 320, and the embeddings of llama have 320 rows"):
        train(SMALL, model, rows, tmp_path / "adapter", str(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()


def test_error_for_early_stopping_without_evaluation_rows(make_model: ModelMaker, tmp_path: Path) -> None:
    dataset = write_rows(tmp_path / "data", [chat_row(1)], [])
    with pytest.raises(DatasetError, match="early_stopping_patience=3"):
        train(SMALL.model_copy(update={"early_stopping_patience": 3}), make_model(), dataset, tmp_path / "adapter")


def test_error_for_an_unknown_target_module_lists_the_available_ones(
    make_model: ModelMaker, dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"'query'; this model has down_proj, .*q_proj"):
        train(SMALL.model_copy(update={"target_modules": ["q_proj", "query"]}), make_model(), dataset, tmp_path)


def test_error_for_a_loss_that_is_not_finite(make_model: ModelMaker, dataset: Path, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"learning_rate": 1e30, "warmup_ratio": 0.0})
    with pytest.raises(TrainingError, match=r"step \d: the loss is .* lower training.learning_rate"):
        train(config, make_model(), dataset, tmp_path)


def test_rows_with_a_weight_are_trained_on_as_often(make_model: ModelMaker, dataset: Path, tmp_path: Path) -> None:
    rows = read_rows(dataset / TRAIN_ROWS)[:6]
    config = SMALL.model_copy(update={"max_steps": 2})
    once, twice = tmp_path / "once", tmp_path / "twice"
    for folder, copies in ((once, 1), (twice, 3)):
        shutil.copytree(dataset, folder)
        with RowWriter(folder / TRAIN_ROWS) as writer:
            for row in rows:
                writer.write(replace(row, copies=copies))
    few = train(config, make_model(), once, tmp_path / "a")
    many = train(config, make_model(), twice, tmp_path / "b")
    assert (few.examples, many.examples) == (6, 18)
