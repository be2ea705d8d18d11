"""The model that is exported: found in a folder, in a run, in the object store or in the registry, and verified."""

import json
from dataclasses import dataclass
from pathlib import Path

from loraline import storage, tracking
from loraline.errors import ConfigurationError, ValidationError
from loraline.evidence.schema import VERDICT_FILE
from loraline.identity import model_digests
from loraline.models.peft_files import ADAPTER_CONFIG
from loraline.registry.files import FILE_LIST, FileList, Part, changed_files, fetch_part
from loraline.registry.tags import DIGEST_TAG
from loraline.registry.versions import find_version
from loraline.sources.registry_address import RegistryAddress

_MARKS: dict[Part, str] = {"merged": "config.json", "adapter": ADAPTER_CONFIG}  # which a part cannot be without
_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class Found:
    """A part of a model, as a folder on this machine."""

    folder: Path
    template: Path | None
    """The chat template that training rendered with, where the merged model has a file of it."""
    verified: str
    """What the bytes were compared with; empty where there is nothing to compare them with."""
    rejected: list[str]
    """Why the gate of the run rejected the model; empty where it did not, or nobody asked it."""


def find(model: str, part: Part, scratch: Path) -> Found:
    """Find a part of a model, bring it here where it is elsewhere, and see that its bytes are the right ones.

    Args:
        model: a folder of a model, an adapter or a run, `s3://bucket/prefix`, `models:/name@alias` or `models:/name/7`.
        part: which part is wanted.
        scratch: an empty folder for what has to be fetched.

    Raises:
        ConfigurationError: the part is not there.
        ValidationError: the bytes are not those that were registered, or that the merge wrote.
        StorageError: the object store or the registry is away.
    """
    if RegistryAddress.matches(model):
        version = find_version(tracking.connect(), model)
        digest = version.tags.get(DIGEST_TAG, "")
        return _registered(str(version.source), digest, f"{version.name} version {version.version}", part, scratch)
    if model.startswith("s3://"):
        return _stored(model.rstrip("/"), part, scratch)
    return _local(Path(model).expanduser(), part)


def _registered(url: str, digest: str, name: str, part: Part, scratch: Path) -> Found:
    """Download a part of a registered model and verify it."""
    try:
        fetch_part(url, digest, part, scratch, also=(f"merged/{_TEMPLATE}",))
    except ValidationError as error:
        raise ValidationError(f"{name} cannot be exported: {error}. Register the model again.") from error
    return Found(scratch / part, _template(scratch), f"{FILE_LIST} of {name}, digest {digest[:12]}", [])


def _downloaded(root: Path, part: Part) -> Found:
    """A part of a registered model that somebody downloaded, with the list of its files."""
    listed = FileList.model_validate_json((root / FILE_LIST).read_bytes())
    own = listed.of_part(part)
    present = {path.relative_to(root).as_posix() for path in (root / part).rglob("*") if path.is_file()}
    changed = changed_files(root, listed, own) + [f"{name} was not registered" for name in sorted(present - set(own))]
    if changed:
        raise ValidationError(
            f"{root} is not the model that was registered: {'; '.join(changed[:5])}. Download it again."
        )
    return Found(root / part, _template(root), f"{FILE_LIST} beside it, digest {listed.digest[:12]}", _rejected(root))


def _stored(url: str, part: Part, scratch: Path) -> Found:
    """A registered model by its address, or any other model or adapter in the object store."""
    for root in (url, url.removesuffix(f"/{part}")):
        if storage.list_objects(f"{root}/{FILE_LIST}"):
            # The folder is named after its content, so that the address says what the digest has to be.
            return _registered(root, root.rsplit("/", 1)[-1], root, part, scratch)
    mark = _MARKS[part]
    if not storage.list_objects(f"{url}/{mark}"):
        raise ConfigurationError(f"there is no {part} model at {url}: it holds no {mark}")
    storage.download(url, scratch / part)
    return Found(scratch / part, None, "", [])


def _local(root: Path, part: Part) -> Found:
    mark = _MARKS[part]
    folder = next((folder for folder in (root / part, root) if (folder / mark).is_file()), None)
    if folder is None:
        hint = "" if root.exists() else ", and no such folder; `loraline run` makes a model in runs/latest"
        raise ConfigurationError(f"there is no {part} model in {root}: no {mark} there, nor in {root / part}{hint}")
    if folder != root and (root / FILE_LIST).is_file():
        return _downloaded(root, part)
    return Found(folder, _template(root), _verified_by_merge(root, folder, part), _rejected(root))


def _template(root: Path) -> Path | None:
    path = root / "merged" / _TEMPLATE
    return path if path.is_file() else None


def _rejected(root: Path) -> list[str]:
    path = root / "evidence" / VERDICT_FILE
    verdict = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return list(verdict["reasons"]) if verdict.get("verdict") == "reject" else []


def _verified_by_merge(root: Path, folder: Path, part: Part) -> str:
    """Compare a run's model with what its merge wrote down of it. Empty: there is no report of a merge."""
    report = folder / "parity.json" if part == "merged" else root / "merged" / "parity.json"
    expected = json.loads(report.read_text(encoding="utf-8")).get(f"{part}_digest") if report.is_file() else None
    if not expected:
        return ""
    found = model_digests.merged_digest(folder) if part == "merged" else model_digests.adapter_digest(folder)
    if found != expected:
        raise ValidationError(
            f"{folder} is not what the merge step wrote down: its digest is {found}, and {report} says {expected}. "
            "It was changed since; run the pipeline again."
        )
    return f"the merge's report, digest {expected[:12]}"
