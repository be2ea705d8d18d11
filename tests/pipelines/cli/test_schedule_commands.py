"""The `loraline schedule` group, against the double of the KFP server."""

import pytest

from tests.pipelines.cli.conftest import loraline
from tests.pipelines.client.server import KfpServer


def test_schedules_are_made_listed_paused_resumed_and_removed(ready: KfpServer, recipe: str) -> None:
    assert "no schedules" in loraline("schedule", "list").output
    made = loraline("schedule", "create", "nightly", recipe, "training.rank=4", "--cron", "0 30 2 * * *")
    assert made.exit_code == 0, made.output
    assert "in UTC, unless" in made.output
    assert made.output.count("02:30:00") == 3
    assert "the latest version (now abc123)" in made.output
    assert loraline("schedule", "create", "pinned", recipe, "--pin", "abc123").exit_code == 0
    (nightly, pinned) = ready.state.recurring.values()
    assert nightly.runtime_config.parameters["rank"] == 4
    assert pinned.trigger.cron_schedule.cron == "0 0 0 * * *"
    pinned.trigger.cron_schedule.cron = "0 2 * * *"  # as somebody may have typed it into the form
    assert "paused" in loraline("schedule", "pause", "nightly").output
    rows = {line.split()[0]: line for line in loraline("schedule", "list").output.splitlines()}
    assert "paused" in rows["nightly"]
    assert "latest" in rows["nightly"]
    assert "abc123" in rows["pinned"]
    assert "?" in rows["pinned"]
    assert loraline("schedule", "resume", "nightly").exit_code == 0
    assert loraline("schedule", "remove", "nightly").exit_code == 0
    assert list(ready.state.recurring.values()) == [pinned]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["create", "nightly", "RECIPE", "--cron", "0 2 * * *"], "'0 0 2 * * *'"),
        (["pause", "nightly"], "no schedule 'nightly'"),
        (["resume", "nightly"], "no schedule 'nightly'"),
        (["remove", "nightly"], "no schedule 'nightly'"),
    ],
)
def test_what_is_refused_exits_with_2_and_changes_nothing(
    ready: KfpServer, recipe: str, words: list[str], message: str
) -> None:
    done = loraline("schedule", *(recipe if word == "RECIPE" else word for word in words))
    assert done.exit_code == 2
    assert message in done.output
    assert not ready.state.recurring
