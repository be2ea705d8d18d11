"""Streamed answers of a real tiny model."""

import threading
from pathlib import Path

import pytest
import torch

from loraline.artifacts.base_model import ModelManifest
from loraline.data.chat import encode_prompt
from loraline.errors import ConfigurationError
from loraline.models.folder import load_tokenizer, write_manifest
from loraline.models.load import load_model
from loraline.serving.conversation import Conversation, answer
from tests import tiny

ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.save_model(tmp_path_factory.mktemp("model"))
    write_manifest(folder, ModelManifest(compute_dtype="float32", device="cpu"))
    return folder


def likeliest(model: Path, count: int, adapter: Path | None = None) -> str:
    """The greedy answer, by a forward pass over everything for each token."""
    tokenizer, network = load_tokenizer(model), load_model(model, adapter)
    prompt = encode_prompt(tokenizer, ASK)
    ids = list(prompt)
    with torch.inference_mode():
        while len(ids) < len(prompt) + count and ids[-1] not in (0, 1):
            ids.append(int(network(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return str(tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True))


def test_temperature_zero_is_greedy_decoding(model: Path, tmp_path: Path) -> None:
    assert "".join(answer(model, ASK, max_new_tokens=20)) == likeliest(model, 20)
    adapter = tiny.save_adapter(tmp_path, model)
    assert "".join(answer(model, ASK, adapter, max_new_tokens=20)) == likeliest(model, 20, adapter)


def test_sampling_is_reproducible_by_seed(model: Path) -> None:
    talk = Conversation(model)

    def sample(seed: int) -> str:
        return "".join(talk.answer(ASK, max_new_tokens=20, temperature=1.0, top_p=0.9, seed=seed))

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_the_answer_ends_with_the_context(model: Path) -> None:
    long = [{"role": "user", "content": "x" * 120}]
    assert len("".join(Conversation(model).answer(long, max_new_tokens=50)).encode()) <= 3 * 6
    with pytest.raises(
        ConfigurationError, match="has 203 tokens and leaves no room for an answer in the model's context of 128 tokens"
    ):
        answer(model, [{"role": "user", "content": "x" * 200}])


def test_closing_the_iterator_stops_generation(model: Path) -> None:
    before = threading.active_count()
    pieces = Conversation(model).answer(ASK, max_new_tokens=100, temperature=2.0)
    next(pieces)
    pieces.close()
    assert threading.active_count() == before


def test_an_error_during_generation_is_raised_to_the_caller(model: Path) -> None:
    talk = Conversation(model)
    talk._loaded.model.get_input_embeddings().weight.data = torch.zeros(1, 32)  # no token fits any more
    with pytest.raises(IndexError):
        list(talk.answer(ASK))


def test_all_values_out_of_range_are_listed_at_once(model: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"at least 1, got 0; .* got -1\.0; .* got 2"):
        Conversation(model).answer(ASK, max_new_tokens=0, temperature=-1.0, top_p=2)
