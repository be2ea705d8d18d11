"""Training throughput against TRL's SFTTrainer, on the same rows and the same model. Not a test: run it by hand.

TRL is installed in an environment of its own, because it is not a dependency:

    python -m venv trl-venv
    trl-venv/bin/pip install torch==2.13.0
    trl-venv/bin/pip install trl==1.16.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 datasets==5.2.0
    python benchmarks/train_lora.py --trl trl-venv/bin/python

Sides take turns, each in a process of its own with one thread, and what is compared is real tokens (padding not
counted) for each CPU-second of training, without loading, tokenizing or writing. Both sides must show that
they learn: a loss that falls, and gradients that are not zero.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_WORDS = 32_000
_LENGTH = 1024  # tokens in a packed row
_BATCH = 2
_RATE = 3e-3  # high, so that a few steps on a random base show learning
_SIDES = ("loraline", "trl best", "trl defaults")


def main() -> None:
    """Make rows and a model, let the sides take turns, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", help="python of the environment that has TRL")
    parser.add_argument("--rows", type=int, default=200, help="rows to train on (about 166 tokens each)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", nargs="+", default=_SIDES, choices=_SIDES)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(_run_side(arguments.side, arguments.work)))
        return
    with tempfile.TemporaryDirectory() as folder:
        _make_inputs(Path(folder), arguments.rows)
        figures: dict[str, list[float]] = {side: [] for side in arguments.sides}
        for _ in range(arguments.rounds):
            for side, speeds in figures.items():
                python = sys.executable if side == "loraline" else arguments.trl
                speeds.append(_in_process(python, side, Path(folder)))
    ours = statistics.median(figures.get("loraline") or [float("nan")])
    for side, speeds in figures.items():
        median = statistics.median(speeds)
        print(f"{side:14} {median:8.0f} tokens per CPU-second   loraline is {ours / median:.2f} times as fast")


def _in_process(python: str, side: str, work: Path) -> float:
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    root = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [python, __file__, "--side", side, "--work", str(work)],
        env={**os.environ, **threads, "PYTHONPATH": root},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["losses"][-1] < result["losses"][0], f"{side} does not learn: {result['losses']}"
    assert min(result["norms"]) > 0, f"{side} has gradients of zero: {result['norms']}"
    speed = result["tokens"] / result["cpu_seconds"]
    print(
        f"{side:14} {speed:8.0f} tokens per CPU-second, loss {result['losses'][0]:.3f} to {result['losses'][-1]:.3f}",
        flush=True,
    )
    return float(speed)


def _make_inputs(work: Path, rows: int) -> None:
    """A 58M Llama with a vocabulary of 32k, and prompt/completion rows of log-normal lengths (mean 166 tokens)."""
    import numpy as np
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>"])} | {f"w{i}": i for i in range(3, _WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=_WORDS,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=_LENGTH,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(work / "model")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    # TRL does not template prompt/completion rows; this template adds nothing, so both sides see the same tokens.
    wrapped.chat_template = (
        "{% for m in messages %}{{ m.content }}{{ '</s>' if m.role == 'assistant' else ' ' }}{% endfor %}"
    )
    wrapped.save_pretrained(work / "model")

    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(4.79, 0.8, rows), 12, 600).astype(int)
    texts = []
    for length in lengths:
        # A small vocabulary in use, so that there is something to learn in few steps.
        text = [f"w{word}" for word in generator.integers(3, 50, length)]
        cut = max(1, int(length * 0.39))
        texts.append({"prompt": " ".join(text[:cut]), "completion": " ".join(text[cut:])})
    (work / "rows.json").write_text(json.dumps(texts))


def _run_side(side: str, work: Path) -> dict[str, Any]:
    texts = json.loads((work / "rows.json").read_text())
    return _loraline(work, texts) if side == "loraline" else _trl(work, texts, best=side == "trl best")


class _Clock:
    """A tracker that notes the CPU time of the first and the last step."""

    def params(self, values: dict[str, Any]) -> None:
        self.began = time.process_time()

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.ended = time.process_time()


def _loraline(work: Path, texts: list[dict[str, str]]) -> dict[str, Any]:
    from loraline.data.rows import Row, RowWriter
    from loraline.training.config import TrainConfig
    from loraline.training.train import train

    for name, some in (("train", texts), ("eval", [])):
        with RowWriter(work / f"{name}.parquet") as writer:
            for text in some:
                user = {"role": "user", "content": text["prompt"]}
                writer.write(Row.of(messages=[user, {"role": "assistant", "content": text["completion"]}]))
    config = TrainConfig(
        learning_rate=_RATE,
        lr_scheduler_type="constant_with_warmup",
        warmup_ratio=0.0,
        epochs=1,
        max_length=_LENGTH,
        batch_size=_BATCH,
    )
    clock = _Clock()
    report = train(config, work / "model", work, work / "adapter", tracker=clock)
    return {
        "tokens": report.tokens,
        "cpu_seconds": clock.ended - clock.began,
        "losses": [point.loss for point in report.history],
        "norms": [point.grad_norm for point in report.history],
    }


def _trl(work: Path, texts: list[dict[str, str]], best: bool) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        def on_train_begin(self, *args: Any, **others: Any) -> None:
            self.began = time.process_time()

        def on_train_end(self, *args: Any, **others: Any) -> None:
            self.ended = time.process_time()

    settings: dict[str, Any] = {"max_length": _LENGTH}
    if best:
        settings |= {
            "packing": True,
            "packing_strategy": "bfd",
            "per_device_train_batch_size": _BATCH,
            "gradient_checkpointing": False,
            "bf16": False,
            "model_init_kwargs": {"dtype": torch.bfloat16},
        }
    config = SFTConfig(
        output_dir=str(work / "trl"),
        num_train_epochs=1,
        learning_rate=_RATE,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **settings,
    )
    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    # The space separates the last word of the prompt from the first of the completion.
    rows = Dataset.from_list([{**text, "completion": f" {text['completion']}"} for text in texts])
    trainer = SFTTrainer(
        model=str(work / "model"),
        args=config,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    words = sum(len(text["prompt"].split()) + len(text["completion"].split()) + 1 for text in texts)
    return {
        "tokens": words,
        "cpu_seconds": clock.ended - clock.began,
        "losses": [float(entry["loss"]) for entry in logs],
        "norms": [float(entry["grad_norm"]) for entry in logs],
    }


if __name__ == "__main__":
    main()
