"""The loss on the general set, whose rows are not trained on: it measures forgetting."""

import math
from pathlib import Path

from loraline.artifacts.dataset_files import GENERAL_ROWS
from loraline.artifacts.evaluation import GeneralLoss, GeneralReport
from loraline.data.rows import read_rows
from loraline.evaluation.config import EvaluateConfig
from loraline.evaluation.examples import encode_examples, score_examples
from loraline.models.loaded import LoadedModel


def score_general(
    config: EvaluateConfig, loaded: LoadedModel, dataset: Path
) -> tuple[GeneralReport, list[GeneralLoss]]:
    """Score the rows of general.parquet, those with the lowest content hash; returns the report and each row's loss.

    Raises:
        DatasetError: no row can be scored.
        ValidationError: the loss of a row is not finite.
    """
    rows = read_rows(dataset / GENERAL_ROWS)[: config.max_examples or None]
    examples, left_out = encode_examples(loaded, rows, str(dataset / GENERAL_ROWS))
    scored = score_examples(loaded, examples, "general rows scored")
    losses = [
        GeneralLoss(id=example.row.id, loss=loss.nats, tokens=loss.tokens)
        for example, loss in zip(examples, scored, strict=True)
    ]
    tokens = sum(loss.tokens for loss in scored)
    mean_loss = math.fsum(loss.nats for loss in scored) / tokens
    return GeneralReport(loss=mean_loss, tokens=tokens, examples=len(losses), left_out=left_out), losses
