"""The loss mask of the training set: mask.json for programs, mask.html for people.

Both show the arrays that training reads. The page also shows the sequences of one forward pass, which are packed.
"""

from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from loraline.artifacts.adapter_files import MASK_PAGE
from loraline.artifacts.training import MaskReport, MaskSample, MaskToken
from loraline.data.chat import encode_rows, last_prompt, prompt_digest, prompt_messages
from loraline.data.chat_template import template_name
from loraline.data.rows import Row
from loraline.report.mask_page import ForwardPass, render_mask_page
from loraline.training.tokenized_dataset import TokenizedDataset

_SAMPLES = 5
_TOKENS_PER_SAMPLE = 600
_TOKENS_PER_PASS = 1500
_PROMPTS = 64


def write_mask(
    tokenizer: PreTrainedTokenizerBase,
    dataset: TokenizedDataset,
    micro_batch: np.ndarray,
    eval_rows: list[Row],
    packing: bool,
    output: Path,
) -> None:
    """Write mask.json and mask.html.

    Args:
        tokenizer: the model's.
        dataset: the tokenized training set.
        micro_batch: indices of the sequences of one forward pass of training.
        eval_rows: rows whose prompts are digested, sorted by id.
        packing: whether the sequences of a forward pass are packed into one row; else each is padded.
        output: an existing folder.
    """
    report = MaskReport(
        masked_fraction=dataset.masked_fraction,
        samples=[_sample(tokenizer, dataset, i) for i in range(min(_SAMPLES, len(dataset)))],
        prompts=prompt_digests(tokenizer, eval_rows),
    )
    report.save(output)
    forward_pass = _forward_pass(tokenizer, dataset, np.sort(micro_batch), packing)
    page = render_mask_page(report, forward_pass, len(dataset), template_name(tokenizer))
    (output / MASK_PAGE).write_text(page, encoding="utf-8")


def prompt_digests(tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> dict[str, str]:
    """Return for the conversations among the first rows, by id, the digest of the prompt before the last answer."""
    chosen = [row for row in rows[:_PROMPTS] if prompt_messages(row)]
    encoded = encode_rows(tokenizer, chosen)
    return {row.id: prompt_digest(last_prompt(one)) for row, one in zip(chosen, encoded, strict=True)}


def _forward_pass(
    tokenizer: PreTrainedTokenizerBase, dataset: TokenizedDataset, micro_batch: np.ndarray, packing: bool
) -> ForwardPass:
    """The longest sequences of a forward pass, as many as the page shows."""
    order = micro_batch[np.argsort(-dataset.lengths[micro_batch], kind="stable")]
    ends = np.cumsum(dataset.lengths[order])
    shown = max(1, int((ends <= _TOKENS_PER_PASS).sum()))
    samples = [_sample(tokenizer, dataset, int(i)) for i in order[:shown]]
    return ForwardPass(samples, len(order) - shown, packing)


def _sample(tokenizer: PreTrainedTokenizerBase, dataset: TokenizedDataset, index: int) -> MaskSample:
    offset, length = dataset.offsets[index], int(dataset.lengths[index])
    shown = slice(offset, offset + min(length, _TOKENS_PER_SAMPLE))
    pairs = zip(dataset.token_ids[shown].tolist(), dataset.loss_mask[shown].tolist(), strict=True)
    return MaskSample(
        id=dataset.ids[index],
        origin=dataset.origins[index],
        length=length,
        tokens=[_token(tokenizer, token_id, loss) for token_id, loss in pairs],
    )


def _token(tokenizer: PreTrainedTokenizerBase, token_id: int, loss: bool) -> MaskToken:
    text = str(tokenizer.decode([token_id]))
    if "\ufffd" in text or not text:  # part of a character, or a token that decoding leaves out
        text = str(tokenizer.convert_ids_to_tokens(token_id))
    added = tokenizer.added_tokens_decoder.get(token_id)
    return MaskToken(text=text, loss=loss, special=added is not None and added.special, token_id=token_id)
