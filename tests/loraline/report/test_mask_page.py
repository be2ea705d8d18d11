"""The page of a loss mask."""

import re

import pytest

from loraline.artifacts.training import MaskReport, MaskSample, MaskToken
from loraline.report.mask_page import ForwardPass, render_mask_page
from tests.loraline.report.parsed_page import parse

HOSTILE = '<script>alert("x")</script>'


def sample(origin: str, *tokens: MaskToken, length: int = 0) -> MaskSample:
    return MaskSample(id="0" * 32, origin=origin, length=length or len(tokens), tokens=list(tokens))


@pytest.fixture
def mask() -> MaskReport:
    tokens = [
        MaskToken(text="<s>", loss=False, special=True, token_id=1),
        MaskToken(text="a b\n", loss=False, special=False, token_id=7),
        MaskToken(text=HOSTILE, loss=True, special=False, token_id=8),
    ]
    return MaskReport(masked_fraction=0.75, samples=[sample("rows.jsonl:3", *tokens)], prompts={})


def test_tokens_are_shown_with_their_loss_mask(mask: MaskReport) -> None:
    page = render_mask_page(mask, ForwardPass([], 0, True), 1200, "the Alpaca template")
    parse(page)
    assert '<span class="special" title="1">&lt;s&gt;</span>' in page
    assert '<span title="7">a\u00b7b\u21b5\n</span>' in page
    assert '<b title="8">&lt;script&gt;alert' in page
    assert "25% of the tokens of 1,200 sequences carry loss" in page
    assert "tokenized with the Alpaca template" in page
    assert "3 tokens, positions 0 to 2<" in page


@pytest.mark.parametrize(("is_packed", "words"), [(True, "attention is block-diagonal"), (False, "padded row")])
def test_a_forward_pass_says_whether_it_is_packed(mask: MaskReport, is_packed: bool, words: str) -> None:
    short = sample("rows.jsonl:9", *mask.samples[0].tokens, length=900)
    page = render_mask_page(mask, ForwardPass([short, short], 4, is_packed), 6, "the Alpaca template")
    forward_pass = page[page.index('id="pass"') :]
    assert words in re.sub(r"\s+", " ", forward_pass)
    assert forward_pass.count("900 tokens, positions 0 to 899; the first 3 are shown") == 2
    assert "4 more sequences are in this forward pass" in forward_pass


def test_the_same_mask_gives_the_same_page(mask: MaskReport) -> None:
    first, second = (render_mask_page(mask, ForwardPass(mask.samples, 0, True), 1, "none") for _ in range(2))
    assert first == second
