"""What the model saw and what it was to learn, token by token: mask.json for programs, mask.html for people.

Both show the very arrays that training read. The page has, beside single rows, those that were packed into one
forward pass, with the borders between them. It is one file without scripts and without requests, for a
phone as for a wide screen, and says with weight and underline what it says with colour.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from loraline.data.chat import encode_rows, last_prompt, prompt_digest, split_last_turn, template_name
from loraline.data.rows import Row
from loraline.report.templates import templates
from loraline.training.batches import Documents
from loraline.training.report import masked_fraction

_SAMPLES = 5
_TOKENS_SHOWN = 600  # of a sample
_PACKED_SHOWN = 1500  # tokens of the forward pass
_PROMPTS = 64
_VISIBLE = {" ": "\u00b7", "\t": "\u2192\t", "\n": "\u21b5\n", "\r": "\u240d", "\u00a0": "\u237d"}


def write_mask(
    tokenizer: PreTrainedTokenizerBase,
    documents: Documents,
    one_pass: np.ndarray,
    eval_rows: list[Row],
    is_packed: bool,
    output: Path,
) -> None:
    """Write mask.json and mask.html.

    Args:
        tokenizer: the model's.
        documents: the training rows.
        one_pass: numbers of the documents of one of training's forward passes.
        eval_rows: rows whose prompts are digested, sorted by id.
        is_packed: whether the documents of a pass lie in one row; else each is padded.
        output: folder that is there.
    """
    samples = [_sample(tokenizer, documents, i) for i in range(min(_SAMPLES, len(documents)))]
    content = {
        "masked_fraction": masked_fraction(documents),
        "samples": [_without_marks(sample) for sample in samples],
        "prompts": prompt_digests(tokenizer, eval_rows),
    }
    (output / "mask.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    environment = templates(__package__)
    together, left_out = _together(tokenizer, documents, np.sort(one_pass))
    page = environment.get_template("mask.html.j2").render(
        samples=samples,
        together=together,
        left_out=left_out,
        is_packed=is_packed,
        learned=1 - masked_fraction(documents),
        examples=len(documents),
        template=template_name(tokenizer),
    )
    (output / "mask.html").write_text(page, encoding="utf-8")


def prompt_digests(tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> dict[str, str]:
    """For the conversations among the first rows, by id, the digest of the prompt before the last answer."""
    chosen = [row for row in rows[:_PROMPTS] if split_last_turn(row)[0]]
    encoded = encode_rows(tokenizer, chosen)
    return {row.id: prompt_digest(last_prompt(one)) for row, one in zip(chosen, encoded, strict=True)}


def _together(
    tokenizer: PreTrainedTokenizerBase, documents: Documents, chosen: np.ndarray
) -> tuple[list[dict[str, Any]], int]:
    """Samples of the documents of one pass, as many as can be shown; and how many are not."""
    order = chosen[np.argsort(-documents.lengths[chosen], kind="stable")]
    ends = np.cumsum(documents.lengths[order])
    shown = max(1, int((ends <= _PACKED_SHOWN).sum()))
    return [_sample(tokenizer, documents, int(i)) for i in order[:shown]], len(order) - shown


def _sample(tokenizer: PreTrainedTokenizerBase, documents: Documents, number: int) -> dict[str, Any]:
    start = documents.starts[number]
    shown = slice(start, start + min(int(documents.lengths[number]), _TOKENS_SHOWN))
    pairs = zip(documents.tokens[shown].tolist(), documents.loss[shown].tolist(), strict=True)
    return {
        "id": documents.ids[number],
        "origin": documents.origins[number],
        "length": int(documents.lengths[number]),
        "tokens": [_token(tokenizer, token, loss) for token, loss in pairs],
    }


def _without_marks(sample: dict[str, Any]) -> dict[str, Any]:
    kept = ("text", "loss", "special")
    return {**sample, "tokens": [{name: token[name] for name in kept} for token in sample["tokens"]]}


def _token(tokenizer: PreTrainedTokenizerBase, token: int, loss: bool) -> dict[str, Any]:
    text = str(tokenizer.decode([token]))
    if "\ufffd" in text or not text:  # a piece of a character, or one that decoding leaves out
        text = str(tokenizer.convert_ids_to_tokens(token))
    added = tokenizer.added_tokens_decoder.get(token)
    special = added is not None and added.special
    shown = text if special else "".join(_VISIBLE.get(character, character) for character in text)
    return {"text": text, "loss": loss, "token": token, "special": special, "shown": shown}
