"""Progress goes where it is sent: to a bar, to a log, to the process that started this one."""

import json
from typing import Any

import pytest
from rich.console import Console

from loraline import progress, progress_display
from loraline.progress_display import TerminalDisplay, shown, tell


class Recorded:
    """An output that keeps what it is shown."""

    seconds_between_updates = 0.0

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def show(self, kind: str, text: str, fields: dict[str, Any]) -> None:
        self.events.append((kind, text, fields))


def test_events_go_to_the_output_that_is_set_and_after_it_to_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown_by(output := Recorded()):
        progress.note("hello")
        progress.advance(1, 2, "rows", loss=0.25)
    progress.note("bye")
    assert output.events == [
        ("note", "hello", {"text": "hello"}),
        ("progress", "1/2 rows, loss 0.25", {"done": 1, "total": 2, "unit": "rows", "figures": {"loss": 0.25}}),
    ]
    assert capsys.readouterr().out == "bye\n"


def test_another_process_gets_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LORALINE_EVENTS", "1")
    with shown("train"):  # which leaves the events to that process
        progress.headline("loss 0.5")
    mark, event = capsys.readouterr().out.split(" ", 1)
    assert mark == progress.EVENT_MARK
    assert json.loads(event) == {"kind": "headline", "text": "loss 0.5"}


def test_updates_that_follow_too_closely_are_dropped_but_not_the_last() -> None:
    output = Recorded()
    output.seconds_between_updates = 60.0
    with progress.shown_by(output):
        for done in range(1, 6):
            progress.advance(done, 5, "steps")
    assert [fields["done"] for _, _, fields in output.events] == [5]


def test_a_log_has_a_line_for_each_phase(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("train"):
        progress.advance(1, 3, "steps")
        progress.advance(3, 3, "steps")
        progress.note("a note")
        progress.headline("loss 0.5")
    tell("evaluate", "exact match 0.9")
    out, error = capsys.readouterr()
    lines = [line.split() for line in error.splitlines()]
    assert lines[0] == ["train", "a", "note"]
    assert lines[1][:2] == ["train", "done"]
    assert lines[1][-2:] == ["loss", "0.5"]
    assert lines[2] == ["evaluate", "reused", "exact", "match", "0.9"]
    assert out == "", "standard output is the caller's"


@pytest.mark.parametrize(("error", "state"), [(ValueError("no"), "failed"), (KeyboardInterrupt(), "stopped")])
def test_a_phase_that_did_not_end_well_says_so(
    error: BaseException, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)), shown("train"):
        raise error
    assert capsys.readouterr().err.split()[:2] == ["train", state]


def test_a_phase_within_a_phase_shows_by_the_outer_one(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("report"), shown("merge"):
        progress.headline("merged")
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["report"]


def test_a_terminal_has_a_bar_and_keeps_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(force_terminal=True, width=120, record=True, highlight=False)
    monkeypatch.setattr(progress_display, "_display", lambda phase: TerminalDisplay(phase, console))
    with shown("train"):
        progress.advance(1, 2, "steps", loss=0.5)
        progress.note("packed [bold]")
        progress.headline("loss 0.5")
    text = console.export_text()
    assert "packed [bold]" in text, "what is shown is no markup"
    assert "train           done" in text
    assert "loss 0.5" in text
