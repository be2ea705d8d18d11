"""What counts as news since the champion was made."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from loraline import tracking
from loraline.evidence.lineage import Lineage
from loraline.registry.freshness import check
from loraline.registry.promote import promote
from loraline.tracking import mlflow_runs
from tests.loraline.registered import register_run
from tests.loraline.run_outputs import LINEAGE

pytestmark = pytest.mark.usefixtures("s3", "mlflow_store")


def changed(**changes: Any) -> Lineage:
    """The lineage of a run in which something is different."""
    values = LINEAGE.model_dump()
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            values[section][key] = value
        else:
            values[section] = value
    return Lineage.model_validate(values)


def test_without_a_champion_everything_is_new(tmp_path: Path) -> None:
    assert check(LINEAGE) == "changed"
    register_run(tmp_path, b"weights", bucket="freshness")
    assert check(LINEAGE) == "changed"


def test_what_the_champion_was_made_from_is_nothing_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register_run(tmp_path, b"weights", bucket="freshness")
    promote("dates")
    assert check(LINEAGE) == "unchanged"
    assert "nothing new" in capsys.readouterr().out
    assert check(changed(code_version="9" * 64)) == "unchanged"


def test_a_run_without_news_has_ended(tmp_path: Path, mlflow_store: str) -> None:
    register_run(tmp_path, b"weights", bucket="freshness")
    promote("dates")
    tracking.parent_run().close()  # as the first step of a run makes it
    client = MlflowClient(mlflow_store)
    assert len(mlflow_runs.running(client, datetime.now(UTC) - timedelta(hours=1))) == 1
    check(LINEAGE)
    assert mlflow_runs.running(client, datetime.now(UTC) - timedelta(hours=1)) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"recipe_digest": "0" * 64}, "the recipe changed"),
        ({"data__digest": "0" * 64}, "the data changed"),
        ({"model__digest": "0" * 64, "data__digest": "0" * 64}, "the data and the base model changed"),
    ],
)
def test_news_is_named(change: dict[str, str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register_run(tmp_path, b"weights", bucket="freshness")
    promote("dates")
    capsys.readouterr()
    assert check(changed(**change)) == "changed"
    assert named in capsys.readouterr().out


def test_a_champion_that_does_not_say_what_it_was_made_from_is_replaced(tmp_path: Path, mlflow_store: str) -> None:
    register_run(tmp_path, b"weights", bucket="freshness")
    promote("dates")
    MlflowClient(mlflow_store).delete_model_version_tag("dates", "1", "data_digest")
    assert check(LINEAGE) == "changed"
