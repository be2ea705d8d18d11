"""docs/data.md: the table of formats has every format, and rows that are read as the table says."""

import json
import re
from pathlib import Path

from loraline.data.formats.detection import convert_record, detect_format
from loraline.data.formats.message_trees import gather_trees
from loraline.data.formats.row_formats import ROW_FORMATS
from loraline.data.reading.records import SourceRecord
from loraline.data.source_config import Columns

PAGE = Path(__file__).parents[4] / "docs" / "data.md"


def test_the_table_of_formats_is_complete_and_true() -> None:
    table = PAGE.read_text().partition("| format | a row |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [re.fullmatch(r"\| (?P<name>[\w -]+) \| `(?P<row>.*?)` \| (?P<others>.*?) ?\|", line) for line in table]
    shown = {row["name"]: row for row in rows if row}
    assert set(shown) == {row_format.name for row_format in ROW_FORMATS}
    for name, row in shown.items():
        fields = json.loads(row["row"].replace("\\|", "|"))
        record = SourceRecord("page", 1, fields)
        detected = detect_format(list(fields), Columns(), "page")
        assert detected.row_format.name == name
        assert set(detected.columns.values()) == set(fields), "every column of the example is read"
        if name == "tree messages":
            (record,) = gather_trees(iter([record]))  # type: ignore[misc,assignment]
            continue
        assert convert_record(record, detected).contents, name
        for part, names in detected.row_format.other_names.items():
            if part not in ("label", "tools", "system"):
                assert any(f"`{other}`" in row["others"] for other in names), (name, part)
