"""Recurring runs."""

from pathlib import Path
from typing import Any

import pytest

from loraline.errors import ConfigurationError
from pipelines.client.connection import Cluster
from pipelines.client.cron import parse_cron
from pipelines.client.runs import PipelineVersion, choose_version
from pipelines.client.schedule import (
    change_schedule,
    create_schedule,
    find_schedule,
    list_schedules,
    version_of,
)
from pipelines.client.upload import upload
from tests.pipelines.client.server import KfpServer
from tests.pipelines.conftest import PARAMETERS


@pytest.fixture
def version(cluster: Cluster, package: Path) -> PipelineVersion:
    upload(cluster, package, "abc123")
    return choose_version(cluster)


def _create(cluster: Cluster, version: PipelineVersion, name: str = "nightly", pinned: bool = False) -> Any:
    return create_schedule(cluster, name, parse_cron("0 0 2 * * *"), version, PARAMETERS, pinned)


def test_one_run_at_a_time_and_nothing_is_made_up_for(
    cluster: Cluster, server: KfpServer, version: PipelineVersion
) -> None:
    made = server.state.recurring[_create(cluster, version).recurring_run_id]
    assert made.max_concurrency == "1"
    assert made.no_catchup is True
    assert made.trigger.cron_schedule.cron == "0 0 2 * * *"
    assert made.status == "ENABLED"
    assert made.runtime_config.parameters == PARAMETERS
    assert "UTC" in made.description


def test_it_follows_the_latest_version_or_is_pinned_to_one(
    cluster: Cluster, server: KfpServer, version: PipelineVersion
) -> None:
    latest, pinned = _create(cluster, version), _create(cluster, version, "pinned", pinned=True)
    assert server.state.recurring[latest.recurring_run_id].pipeline_version_reference.pipeline_version_id is None
    assert (version_of(cluster, latest), version_of(cluster, pinned)) == ("latest", "abc123")


def test_it_is_paused_resumed_and_removed_by_name(
    cluster: Cluster, server: KfpServer, version: PipelineVersion
) -> None:
    made = _create(cluster, version)
    change_schedule(cluster, "nightly", "pause")
    assert find_schedule(cluster, "nightly").status == "DISABLED"
    change_schedule(cluster, made.recurring_run_id[:8], "resume")
    assert find_schedule(cluster, "nightly").status == "ENABLED"
    change_schedule(cluster, "nightly", "remove")
    assert server.state.recurring == {}


def test_a_name_is_given_once(cluster: Cluster, version: PipelineVersion) -> None:
    _create(cluster, version)
    with pytest.raises(ConfigurationError, match="loraline schedule remove nightly"):
        _create(cluster, version)


def test_two_of_one_name_made_elsewhere_need_an_id(
    cluster: Cluster, server: KfpServer, version: PipelineVersion
) -> None:
    first, second = _create(cluster, version), _create(cluster, version, "other")
    server.state.recurring[second.recurring_run_id].display_name = "nightly"
    with pytest.raises(ConfigurationError, match="2 schedules"):
        change_schedule(cluster, "nightly", "pause")
    change_schedule(cluster, first.recurring_run_id, "pause")


def test_what_is_not_there_is_said(cluster: Cluster, version: PipelineVersion) -> None:
    assert list_schedules(cluster) == []
    _create(cluster, version)
    with pytest.raises(ConfigurationError, match=r"no schedule 'weekly'.* there are: nightly"):
        change_schedule(cluster, "weekly", "remove")
