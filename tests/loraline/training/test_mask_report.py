"""mask.json and mask.html show the loss mask that training reads."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from loraline.artifacts.dataset_files import EVAL_ROWS
from loraline.data.chat import encode_prompt, encode_row, prompt_digest, prompt_messages
from loraline.data.rows import Row, read_rows
from loraline.training.config import TrainConfig
from loraline.training.train import train
from tests.loraline.training.conftest import chat_row, write_rows

HARD = "a\u00a0<b>\t\u00e9\n\n\u4e2d </b>&amp;"


class Page(HTMLParser):
    """Collects the tokens, with whether each is bold, and everything that would make a request."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[tuple[str, bool]]] = []
        self.requests: list[str] = []
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.requests += [value for name in ("src", "href") if (value := values.get(name))]
        if tag in ("script", "link", "img", "iframe"):
            self.requests.append(tag)
        if tag == "div" and values.get("class") == "tokens":
            self.rows.append([])
        if tag in ("b", "span") and "title" in values:
            self._open = tag
            self.rows[-1].append(("", tag == "b"))

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open:
            text, loss = self.rows[-1][-1]
            self.rows[-1][-1] = (text + data, loss)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    hard = Row.of(messages=[{"role": "user", "content": HARD}, {"role": "assistant", "content": HARD}], origin="hard:1")
    return [hard, *(chat_row(i) for i in range(5))]


@pytest.fixture(scope="module")
def written(rows: list[Row], make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mask")
    held_out = [chat_row(i) for i in range(100, 170)] + [Row.of(text="plain text")]
    dataset = write_rows(folder / "data", rows, held_out)
    train(TrainConfig(rank=2, max_steps=1, max_length=2048), make_model(), dataset, folder / "adapter")
    return folder


def test_page_shows_the_arrays_of_training(written: Path, rows: list[Row], tokenizer: PreTrainedTokenizerFast) -> None:
    page = Page((written / "adapter" / "mask.html").read_text(encoding="utf-8"))
    in_order = sorted(rows, key=lambda row: row.id)
    assert len(page.rows) == 5 + len(rows)  # the samples, and a whole pass
    for row, shown in zip(in_order, page.rows, strict=False):
        encoded = encode_row(tokenizer, row)
        assert [loss for _, loss in shown] == encoded.loss_mask
        if row.origin != "hard:1":
            text = re.sub(r"\u21b5\n", "\n", "".join(token for token, _ in shown)).replace("\u00b7", " ")
            assert text == tokenizer.decode(encoded.token_ids)


def test_page_shows_white_space_and_escapes_html(written: Path) -> None:
    page = Page((written / "adapter" / "mask.html").read_text(encoding="utf-8"))
    texts = ["".join(token for token, _ in row) for row in page.rows]
    text = next(text for text in texts if "<b>" in text)
    assert "\u2192\t" in text
    assert "\u21b5\n" in text
    assert "</b>&amp;" in text


def test_page_makes_no_requests(written: Path) -> None:
    text = (written / "adapter" / "mask.html").read_text(encoding="utf-8")
    assert not Page(text).requests
    assert "url(" not in text
    assert "@import" not in text
    assert 'name="viewport"' in text


def test_boundaries_between_packed_sequences(written: Path, rows: list[Row]) -> None:
    text = (written / "adapter" / "mask.html").read_text(encoding="utf-8")
    packed = text[text.index('<div class="packed">') :]
    assert packed.count("<figure ") == len(rows)
    assert packed.count("positions 0 to") == len(rows)
    assert "border-top-style: double" in text


def test_prompt_digests_are_those_of_training(written: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    mask = json.loads((written / "adapter" / "mask.json").read_text(encoding="utf-8"))
    lowest = [row for row in read_rows(written / "data" / EVAL_ROWS)[:64] if row.messages]
    assert mask["prompts"] == {row.id: prompt_digest(encode_prompt(tokenizer, prompt_messages(row))) for row in lowest}
    assert len(set(mask["prompts"].values())) > 60
