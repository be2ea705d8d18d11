"""What `loraline infer` talks to: a model from anywhere, its policy, and the audit trail."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loraline.errors import ConfigurationError
from loraline.models.folder import read_manifest
from loraline.safety import Policy, load_policy, read_policy
from loraline.serving.audit import AuditTrail
from loraline.serving.conversation import Conversation
from loraline.serving.guard import Guard
from loraline.sources.model import fetch_model, parse_model_source, pin_model
from loraline.sources.pin import Pin
from pipelines.local.services import HOME, services

NO_POLICY = "none"
AUDIT = HOME / "audit.jsonl"


@contextmanager
def conversation(
    model: str, policy: str | None, audit: Path | None, trust_remote_code: bool
) -> Iterator[tuple[Conversation, Guard]]:
    """Bring a model here and load it, behind its guard.

    Args:
        model: a folder, s3://bucket/prefix, a Hub id, or models:/name@alias.
        policy: a policy's name, file or address, or "none"; not given: the one that travels with the model.
        audit: the audit trail; not given: the machine's own where there is a policy, else none.
        trust_remote_code: whether Python code that comes with the model may run.

    Raises:
        ConfigurationError: there is no such policy, or the model wants to run code and may not.
        ModelLoadingError, StorageError: the model or the trail is not to be had.
    """
    with tempfile.TemporaryDirectory() as fetched:
        folder, pin = _bring(model, Path(fetched) / "model")
        if read_manifest(folder).trust_remote_code and not trust_remote_code:
            raise ConfigurationError(f"{model} wants to run code of its own: allow it with --trust-remote-code")
        chosen = _policy(policy, folder, model)
        path = audit or (AUDIT if chosen else None)
        guard = Guard(chosen)
        if path:
            pin = pin or pin_model(model)
            guard = Guard(chosen, AuditTrail(path), {"source": model, "version": pin.revision, "digest": pin.digest})
        yield Conversation(folder, guard=guard), guard


def _bring(model: str, folder: Path) -> tuple[Path, Pin | None]:
    """The model's folder, and what it was when it was fetched; a folder is used where it lies."""
    source = parse_model_source(model)
    if source.kind == "folder":
        return Path(source.location), None
    with services(HOME):
        pin = pin_model(model)
        fetch_model(model, pin.revision, folder, policy=True)
    return folder, pin


def _policy(source: str | None, folder: Path, model: str) -> Policy | None:
    if source == NO_POLICY:
        return None
    if source is None:
        try:
            return read_policy(folder)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{error}\nIt came with {model}; name another with --policy, or `--policy none` to go without"
            ) from error
    if source.startswith("s3://"):
        with services(HOME):
            return load_policy(source)
    return load_policy(source)
