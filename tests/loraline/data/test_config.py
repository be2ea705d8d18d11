from pathlib import Path

import pydantic
import pytest

from loraline.data.config import Columns, DataConfig


@pytest.mark.parametrize(
    "columns",
    [{"prompt": "a", "text": "b"}, {"text": "a", "system": "b"}, {"messages": "a", "output": "b"}],
)
def test_columns_of_two_formats_are_refused(columns: dict[str, str]) -> None:
    with pytest.raises(pydantic.ValidationError, match="do not belong to one row format"):
        Columns(**columns)


def test_overlap_must_be_smaller_than_a_chunk(tmp_path: Path) -> None:
    with pytest.raises(pydantic.ValidationError, match="got 64 and 64"):
        DataConfig(source=str(tmp_path), chunk_tokens=64, chunk_overlap=64)
