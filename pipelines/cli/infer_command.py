"""`loraline infer`: generate an answer with any model, under its safety policy, and keep an audit trail."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from loraline.errors import ConfigurationError
from pipelines.cli.exits import exit_on_error
from pipelines.local.services import AUDIT_TRAIL, HOME, RUNS, services

if TYPE_CHECKING:
    from loraline.safety.policy import Policy
    from loraline.serving.conversation import Conversation
    from loraline.serving.guard import Guard
    from loraline.sources.pin import Pin

_LATEST_MODEL = str(RUNS / "latest" / "merged")
_NO_POLICY = "none"

app = typer.Typer()


@app.command()
def infer(
    prompt: Annotated[str, typer.Argument(help="The prompt. `-` reads it from standard input.")],
    model: Annotated[
        str, typer.Option(help="A folder, s3://bucket/prefix, a Hub id, or models:/name@alias.")
    ] = _LATEST_MODEL,
    system: Annotated[str, typer.Option(help="A system message before the prompt.")] = "",
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(help="0: greedy decoding.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling: the probability mass to sample from.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Random seed for sampling.")] = 0,
    trust_remote_code: Annotated[bool, typer.Option(help="Run Python code that comes with the model.")] = False,
    policy: Annotated[
        str | None,
        typer.Option(
            help="A safety policy: a shipped one's name, a YAML file, s3://..., or none. Default: the model's own.",
            show_default=False,
        ),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(
            help="The audit trail. Default: .loraline/audit.jsonl with a policy, else none.", show_default=False
        ),
    ] = None,
) -> None:
    """Generate an answer with a model, through the chat template that it was trained and evaluated with.

    Without --model it is the tuned model of the latest run. The answer is streamed.

    Under a safety policy, which a model that was trained with one carries, the prompt is checked before generation,
    and the answer is shown only when it is complete and checked. Both are recorded in the audit trail.
    """
    text = sys.stdin.read() if prompt == "-" else prompt
    messages = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": text}]
    with exit_on_error():
        if model == _LATEST_MODEL and not Path(model).exists():
            raise ConfigurationError(f"no model at {model}: train one with `loraline run`, or give one with --model")
        with _conversation(model, policy, audit, trust_remote_code) as (conversation, guard):
            pieces = conversation.answer(
                messages, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed
            )
            for piece in pieces:
                typer.echo(piece, nl=False)
            typer.echo()
            _note_refusal(guard)


def _note_refusal(guard: "Guard") -> None:
    if guard.decision.allowed:
        return
    what = "answer was withheld" if guard.was_generated else "model was not asked"
    note = f"[yellow]policy[/yellow]  the {what}: {guard.decision.category}"
    Console(stderr=True, highlight=False).print(note)


@contextmanager
def _conversation(
    model: str, policy: str | None, audit: Path | None, trust_remote_code: bool
) -> Iterator[tuple["Conversation", "Guard"]]:
    """Fetch and load a model, guarded by its policy.

    Args:
        model: a folder, s3://bucket/prefix, a Hub id, or models:/name@alias.
        policy: a policy's name, file or address, or "none"; None: the one that was saved with the model.
        audit: the audit trail; None: this machine's own if there is a policy, else none.
        trust_remote_code: whether Python code that comes with the model may run.

    Raises:
        ConfigurationError: no such policy, or the model needs to run its own code and may not.
        ModelLoadingError, StorageError: the model or the audit trail cannot be read.
    """
    from loraline.models.folder import read_manifest
    from loraline.serving.audit import AuditTrail
    from loraline.serving.conversation import Conversation
    from loraline.serving.guard import Guard
    from loraline.sources.model import pin_model

    with tempfile.TemporaryDirectory() as fetched:
        folder, pin = _fetch(model, Path(fetched) / "model")
        if read_manifest(folder).trust_remote_code and not trust_remote_code:
            raise ConfigurationError(f"{model} needs to run its own Python code: allow it with --trust-remote-code")
        chosen = _load_policy(policy, folder, model)
        path = audit or (AUDIT_TRAIL if chosen else None)
        guard = Guard(chosen)
        if path:
            pin = pin or pin_model(model)
            guard = Guard(chosen, AuditTrail(path), {"source": model, "version": pin.revision, "digest": pin.digest})
        yield Conversation(folder, guard=guard), guard


def _fetch(model: str, folder: Path) -> tuple[Path, "Pin | None"]:
    """The model's folder, and its pin if it was fetched; a local folder is used in place."""
    from loraline.sources.model import fetch_model, parse_model_source, pin_model

    source = parse_model_source(model)
    if source.is_model_folder:
        return Path(source.location), None
    with services(HOME):
        pin = pin_model(model)
        fetch_model(model, pin.revision, folder, policy=True)
    return folder, pin


def _load_policy(source: str | None, folder: Path, model: str) -> "Policy | None":
    from loraline.safety.policy_files import load_policy, read_policy

    if source == _NO_POLICY:
        return None
    if source is None:
        try:
            return read_policy(folder)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{error}\nIt came with {model}; give another with --policy, or `--policy none` to go without"
            ) from error
    if source.startswith("s3://"):
        with services(HOME):
            return load_policy(source)
    return load_policy(source)
