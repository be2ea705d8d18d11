"""The files of a prepared dataset, its sets of rows, and the type of a message."""

from typing import Literal

TRAIN_ROWS = "train.parquet"
EVAL_ROWS = "eval.parquet"
GENERAL_ROWS = "general.parquet"
"""The general evaluation set, on which forgetting is measured; only where data.general_source is set."""
BAD_ROWS = "bad_rows.jsonl"
PAGE = "report.html"

Split = Literal["train", "eval"]
RowSet = Literal["train", "eval", "general"]
ROW_FILES: dict[RowSet, str] = {"train": TRAIN_ROWS, "eval": EVAL_ROWS, "general": GENERAL_ROWS}
"""The parquet file of each set of rows."""

Message = dict[str, str]
"""One turn of a conversation: {"role": "system" | "user" | "assistant", "content": text}."""
