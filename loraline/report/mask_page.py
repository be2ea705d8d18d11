"""The page of a training set's loss mask: which tokens are labels, and which sequences are packed together."""

from collections.abc import Sequence
from dataclasses import dataclass

from loraline.artifacts.training import MaskReport, MaskSample
from loraline.report.rendering import render_html


@dataclass(frozen=True)
class ForwardPass:
    """The sequences of one forward pass of training."""

    samples: Sequence[MaskSample]
    omitted: int
    """Number of its sequences that are not in `samples`."""
    is_packed: bool
    """Whether they are packed into one row; else each is padded."""


def render_mask_page(mask: MaskReport, forward_pass: ForwardPass, sequences: int, template: str) -> str:
    """Render the loss mask as one HTML file, self-contained and without scripts.

    Args:
        mask: the report, with sample sequences.
        forward_pass: sequences that training computes together.
        sequences: number of sequences in the training set.
        template: name of the chat template that they were tokenized with.
    """
    return render_html(
        "mask_page.html.j2", mask=mask, forward_pass=forward_pass, sequences=sequences, template=template
    )
