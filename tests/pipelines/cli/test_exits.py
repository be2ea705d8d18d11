"""Exit statuses and error messages, the same for all commands."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from loraline.errors import ClusterAwayError, ConfigurationError, LoralineError, ValidationError
from pipelines.cli.app import app
from pipelines.cli.exits import FAILED, REFUSED, STOPPED, exit_on_error
from pipelines.local.run import RunFailedError


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (RunFailedError("step gate failed"), FAILED, "failed"),
        (ConfigurationError("no recipe [x]"), REFUSED, "refused"),
        (ValidationError("no proof"), REFUSED, "refused"),
        (ClusterAwayError("no answer"), REFUSED, "cluster"),
        (KeyboardInterrupt(), STOPPED, "stopped"),
    ],
)
def test_an_error_is_printed_as_one_message_and_exits_with_its_status(
    error: BaseException, status: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, exit_on_error():
        raise error
    assert ended.value.exit_code == status
    message = capsys.readouterr().err
    assert word in message
    assert str(error) in message
    assert "Traceback" not in message


def test_other_errors_are_raised() -> None:
    with pytest.raises(ZeroDivisionError), exit_on_error():
        1 / 0  # noqa: B018


@pytest.mark.parametrize(
    "words",
    [
        ("run", "no-such-recipe"),
        ("validate", "no-such-recipe"),
        ("submit", "no-such-recipe"),
        ("schedule", "create", "nightly", "quickstart", "--cron", "0 2 * * *"),
        ("plan", "quickstart", "training.rank=none"),
        ("run", "quickstart", "--no-such-option"),
    ],
)
def test_every_command_exits_with_2_if_it_refuses(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == REFUSED, done.output
    assert not list(tmp_path.iterdir()), "nothing was started"


def test_every_error_class_is_handled() -> None:
    kinds = [LoralineError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    for kind in kinds:
        with pytest.raises(typer.Exit), exit_on_error():
            raise kind("message")
