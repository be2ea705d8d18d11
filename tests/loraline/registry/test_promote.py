"""The alias `champion` moves on evidence only, and back in one step."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from loraline import storage
from loraline.artifacts.registration import Registration
from loraline.errors import ConfigurationError, StorageError, ValidationError
from loraline.registry.promote import carry_out, promote, rollback
from tests.loraline.registered import GatedRun, register_gated

pytestmark = pytest.mark.usefixtures("s3", "mlflow_store")

Register = Callable[[bytes], Registration]


@pytest.fixture
def client(mlflow_store: str) -> MlflowClient:
    return MlflowClient(mlflow_store)


@pytest.fixture
def registered(make_gated_run: Callable[[bytes], GatedRun], tmp_path: Path) -> Register:
    """Registers the promoted run whose adapter has certain weights."""
    return lambda weights: register_gated(make_gated_run(weights), tmp_path / "registration", "promotions")


def aliases(client: MlflowClient) -> dict[str, str]:
    return {alias: str(number) for alias, number in client.get_registered_model("dates").aliases.items()}


def test_the_champion_moves_forward_and_back(registered: Register, client: MlflowClient) -> None:
    registered(b"one")
    first = promote("dates")
    assert (first.version, first.previous) == ("1", None)
    with pytest.raises(ValidationError, match="nothing to roll back to: version 1 is its champion"):
        rollback("dates")

    registered(b"two")
    second = promote("dates")
    assert (second.version, second.previous) == ("2", "1")
    assert aliases(client) == {"challenger": "2", "champion": "2", "previous": "1"}
    with pytest.raises(ValidationError, match="version 2 of dates is the champion already"):
        promote("dates")

    back = rollback("dates")
    assert (back.version, back.previous) == ("1", "2")
    assert aliases(client) == {"challenger": "2", "champion": "1"}
    with pytest.raises(ValidationError, match="nothing to roll back to"):
        rollback("dates")

    assert promote("dates", "2").previous == "1"


def test_a_version_whose_tag_does_not_say_promote_is_refused(registered: Register, client: MlflowClient) -> None:
    registered(b"one")
    client.set_model_version_tag("dates", "1", "verdict", "reject")
    with pytest.raises(ValidationError, match="verdict='reject', not 'promote'"):
        promote("dates")
    client.delete_model_version_tag("dates", "1", "verdict")
    with pytest.raises(ValidationError, match="verdict=None"):
        promote("dates")
    assert "champion" not in aliases(client)


EVIDENCE, WEIGHTS, LIST = "evidence/evidence.json", "merged/model.safetensors", "files.json"
TAMPERED: list[tuple[str, Callable[[bytes], bytes] | None, str]] = [
    (EVIDENCE, lambda was: was.replace(b'"gain": 0.9', b'"gain": 0.8'), "verdict: computed again, the findings give"),
    (EVIDENCE, None, r"evidence/evidence\.json is missing"),
    (WEIGHTS, None, r"merged/model\.safetensors is missing"),
    (WEIGHTS, lambda was: b"other", r"merged/model\.safetensors has 5 bytes instead of 10"),
    (WEIGHTS, bytes.swapcase, r"bytes: merged/model\.safetensors has the digest \w+ instead of \w+\."),
    (LIST, lambda was: was.replace(b'"sha256": "', b'"sha256": "0', 1), "list of files: the tag content_digest is"),
    (LIST, lambda was: b"[]", r"files\.json .* is not a list of files"),
    (LIST, None, r"there is no files\.json"),
]


def test_evidence_that_is_missing_or_altered_is_refused(
    registered: Register, client: MlflowClient, tmp_path: Path
) -> None:
    url = registered(b"one").url
    for name, change, message in TAMPERED:
        [path] = storage.download(f"{url}/{name}", tmp_path / "was")
        was = path.read_bytes()
        if change is None:
            storage.remove(f"{url}/{name}")
        else:
            path.write_bytes(change(was))
            storage.upload(path, f"{url}/{name}")
        with pytest.raises(ValidationError, match=message):
            promote("dates")
        path.write_bytes(was)
        storage.upload(path, f"{url}/{name}")
    assert "champion" not in aliases(client)
    assert promote("dates").version == "1"


def test_what_is_not_there_is_said(client: MlflowClient) -> None:
    with pytest.raises(StorageError, match="no registered model 'dates'"):
        promote("dates")
    with pytest.raises(StorageError, match="no registered model 'dates'"):
        rollback("dates")
    client.create_registered_model("dates")
    with pytest.raises(StorageError, match="no version with the alias challenger"):
        promote("dates")
    with pytest.raises(StorageError, match="reading version 7 of dates"):
        promote("dates", "7")
    with pytest.raises(ValidationError, match="it has no champion"):
        rollback("dates")


def test_the_pipelines_parameters_say_which_way(registered: Register) -> None:
    registered(b"one")
    registered(b"two")
    assert carry_out("dates", version="1").version == "1"
    assert carry_out("dates").version == "2"
    assert carry_out("dates", action="rollback").version == "1"
    with pytest.raises(ConfigurationError, match="takes no version"):
        carry_out("dates", action="rollback", version="2")
    with pytest.raises(ConfigurationError, match="action = 'forward': Input should be 'promote' or 'rollback'"):
        carry_out("dates", action="forward")
