"""A real model learns a real task, from one command: the recipe smollm2-135m-instruct, end to end."""

import json
from pathlib import Path

import pytest
import torch

from loraline.evidence.schema import Evidence
from loraline.models.folder import load_tokenizer
from loraline.models.load import load_model
from loraline.sources.model import fetch_model
from pipelines.local.summary import Summary
from tests.pipelines.local.test_run import loraline
from tests.real.conftest import SHORT

pytestmark = pytest.mark.real

FEWER = ("training.max_steps=12", "training.learning_rate=1e-3", "evaluation.max_examples=40") if SHORT else ()
GSM8K = Path(__file__).parents[3] / "shared/data/gsm8k"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workplace")


def test_the_base_answers_as_the_model_that_it_is(gguf: Path, tmp_path: Path) -> None:
    fetch_model(str(gguf), "", tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    # Digits are tokens of their own; the line breaks before one stay together. GPT-2's rule, the default, parts them.
    assert tokenizer.tokenize("\n\n19") == ["\u010a\u010a", "1", "9"]
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    with torch.no_grad():
        tokens = load_model(tmp_path).generate(**prompt, max_new_tokens=16, do_sample=False)[0]
    assert tokenizer.decode(tokens[prompt["input_ids"].shape[1] :]) == "The capital of France is Paris.<|im_end|>"


@pytest.fixture(scope="module")
def result(gguf: Path, workplace: Path) -> Summary:
    loraline(workplace, "run", "smollm2-135m-instruct", f"model.source={gguf}", *FEWER)
    return Summary.load(workplace / "runs/latest")


def test_the_tuned_model_can_what_the_base_cannot(result: Summary) -> None:
    assert result.base.json_f1 is not None
    assert result.tuned.json_f1 is not None
    assert result.base.json_f1 < 0.4
    assert result.tuned.json_f1 > 0.6
    assert result.verdict == "promote", result.reasons
    assert result.model_version is not None


def test_the_tuned_models_answers_are_json_with_the_keys_that_were_asked_for(result: Summary, workplace: Path) -> None:
    examples = Evidence.load(workplace / "runs/latest/evidence").examples
    right = 0
    for example in examples:
        try:
            right += json.loads(example.tuned.answer or "").keys() == json.loads(example.reference or "").keys()
        except (ValueError, AttributeError):
            continue
    assert len(examples) >= 40
    assert right / len(examples) > 0.9


@pytest.mark.skipif(SHORT or not GSM8K.exists(), reason="word problems are trained on in the whole run, where they are")
def test_an_honest_run_on_word_problems_is_promoted(gguf: Path, workplace: Path) -> None:
    columns = 'data.columns={"prompt": "question", "completion": "answer"}'
    rows = next(file for file in sorted(GSM8K.iterdir()) if "train" in file.name)
    few = ("training.max_steps=20", "evaluation.max_examples=40", "evaluation.max_new_tokens=32")
    own = (f"data.source={rows}", columns, "data.eval_source=", "gate.metric=loss", "gate.min_gain=0")
    loraline(workplace, "run", "smollm2-135m-instruct", f"model.source={gguf}", *own, *few)
    found = Summary.load(workplace / "runs/latest")
    assert found.verdict == "promote", found.reasons
    assert found.tuned.perplexity < found.base.perplexity
