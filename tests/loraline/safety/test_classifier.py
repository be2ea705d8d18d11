"""A policy with a classifier: a tiny one, trained here to distinguish tea from coffee."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from loraline.data.rows import Row
from loraline.errors import ConfigurationError, ModelLoadingError
from loraline.safety import classifier as classifiers
from loraline.safety.screening import check_answer, check_prompt, screen_row
from tests.loraline.safety.conftest import SMALL, Load

WORDS = ("[PAD]", "[UNK]", "tea", "leaf", "pot", "bean", "roast", "grinder")
RIVAL = {"name": "rival", "description": "coffee by other words", "actions": {"rows": "drop", "answer": "refuse"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    )
    torch.manual_seed(0)
    network = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=1,
            max_position_embeddings=16,
            id2label={0: "tea", 1: "coffee"},
        )
    )
    texts = ["tea leaf pot", "pot [UNK] tea", "bean roast", "grinder [UNK] bean", "[UNK] [UNK]", "roast [UNK] [UNK]"]
    ids = tokenizer(texts, padding="max_length", return_tensors="pt")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        loss: Any = network(
            input_ids=ids["input_ids"],
            attention_mask=ids["attention_mask"],
            labels=torch.tensor([0, 0, 1, 1, 0, 1]),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def nothing_loaded() -> None:
    classifiers._load.cache_clear()


def settings(model: Path, label: str = "coffee", threshold: float = 0.5) -> dict[str, Any]:
    named = {"model": str(model), "labels": {label: {"category": "rival", "threshold": threshold}}}
    return {"categories": [*SMALL["categories"], RIVAL], "classifier": named}


def test_the_classifier_finds_what_patterns_miss(model: Path, load: Load) -> None:
    policy = load(**settings(model))
    (found,) = screen_row(policy, Row.of(text="roast the bean"))
    assert (found.category, found.action, found.start, found.end) == ("rival", "drop", 0, 14)
    assert screen_row(policy, Row.of(text="a pot of tea")) == []
    assert check_answer(policy, [], "grinder and bean").category == "rival"
    assert check_prompt(policy, [{"role": "user", "content": "roast bean"}]).allowed  # does not act on prompts


def test_long_texts_are_classified_in_windows(model: Path, load: Load) -> None:
    policy = load(**settings(model))
    assert check_answer(policy, [], "tea pot " * 40).allowed
    assert not check_answer(policy, [], "tea pot " * 40 + "roast bean grinder " * 4 + "tea pot " * 40).allowed


def test_a_label_matches_from_its_threshold(model: Path, load: Load) -> None:
    probability = classifiers._load(str(model), "", ("coffee",)).probabilities("bean roast")["coffee"]
    assert 0.6 < probability < 1
    assert check_answer(load(**settings(model, threshold=probability + 1e-6)), [], "bean roast").allowed
    assert not check_answer(load(**settings(model, threshold=probability - 1e-6)), [], "bean roast").allowed


def test_the_classifier_is_pinned_by_its_digest(model: Path, load: Load, tmp_path: Path) -> None:
    policy = load(**settings(model))
    assert policy.classifier
    assert len(policy.classifier.revision) == 64
    changed = policy.model_copy(update={"classifier": policy.classifier.model_copy(update={"revision": "0" * 64})})
    with pytest.raises(ModelLoadingError, match="has digest"):
        check_answer(changed, [], "tea")
    elsewhere = policy.classifier.model_copy(update={"model": "/elsewhere/classifier"})
    with pytest.raises(ModelLoadingError, match="does not exist on this one"):
        check_answer(policy.model_copy(update={"classifier": elsewhere}), [], "tea")
    with pytest.raises(ConfigurationError, match=r"pin the commit as classifier\.revision"):
        load(**settings(Path("owner/toxicity")))


def test_a_missing_label_or_library_is_named(model: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="has no label toxic; it has: tea, coffee"):
        check_answer(load(**settings(model, label="toxic")), [], "tea")
    monkeypatch.setitem(sys.modules, "transformers", None)  # what an import finds where it is not installed
    with pytest.raises(ModelLoadingError, match=r"needs torch and transformers.*install loraline\[train\]"):
        check_answer(load(**settings(model)), [], "tea")
