"""Every family in docs/families.md goes from base to merged model, or is refused for the reason given there."""

from pathlib import Path

import pytest

from tests.families.families import FAMILIES, Family
from tests.families.table import read_table, row
from tests.families.trial import attempt


def _parameter(family: Family) -> object:
    return pytest.param(family, id=family.model_type, marks=[] if family.quick else pytest.mark.families)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", [_parameter(one) for one in FAMILIES])
def test_family(family: Family, tmp_path: Path) -> None:
    assert row(family, attempt(family, tmp_path)) == read_table()[family.model_type]


def test_the_table_lists_the_families_that_are_tried() -> None:
    assert list(read_table()) == [family.model_type for family in FAMILIES]
