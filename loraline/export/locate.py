"""Locate the model to export in a folder, a run, the object store or the registry, and verify its files."""

from dataclasses import dataclass
from pathlib import Path

from loraline import storage, tracking
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.verdict import Verdict
from loraline.errors import ConfigurationError, ValidationError
from loraline.identity import model_digests
from loraline.models.peft_files import ADAPTER_CONFIG
from loraline.registry.files import FILE_LIST, VERDICT_PATH, FileList, Part, changed_files, fetch_part
from loraline.registry.tags import DIGEST_TAG
from loraline.registry.versions import find_version
from loraline.sources.registry_address import RegistryAddress

_REQUIRED_FILES: dict[Part, str] = {"merged": "config.json", "adapter": ADAPTER_CONFIG}
_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class LocatedModel:
    """A part of a model in a local folder."""

    folder: Path
    template: Path | None
    """The chat template of training, if the merged model has a template file."""
    verified: str
    """What the files' digests were verified against; empty if there is no record of them."""
    rejected: list[str]
    """Reasons why the run's gate rejected the model; empty if it did not, or is not known."""


def locate(model: str, part: Part, scratch: Path) -> LocatedModel:
    """Locate a part of a model, download it if it is remote, and verify its files.

    Args:
        model: a folder of a model, an adapter or a run, `s3://bucket/prefix`, `models:/name@alias` or `models:/name/7`.
        part: the part to export.
        scratch: an empty folder for downloads.

    Raises:
        ConfigurationError: the model has no such part.
        ValidationError: the files are not those that were registered, or that the merge wrote.
        StorageError: the object store or the registry cannot be reached.
    """
    if RegistryAddress.matches(model):
        version = find_version(tracking.connect(), model)
        digest = version.tags.get(DIGEST_TAG, "")
        return _registered(str(version.source), digest, f"{version.name} version {version.version}", part, scratch)
    if model.startswith("s3://"):
        return _stored(model.rstrip("/"), part, scratch)
    return _local(Path(model).expanduser(), part)


def _registered(url: str, digest: str, name: str, part: Part, scratch: Path) -> LocatedModel:
    """Download a part of a registered model and verify it."""
    try:
        fetch_part(url, digest, part, scratch, also=(f"merged/{_TEMPLATE}",))
    except ValidationError as error:
        raise ValidationError(f"{name} cannot be exported: {error}. Register the model again.") from error
    return LocatedModel(scratch / part, _template(scratch), f"{FILE_LIST} of {name}, digest {digest[:12]}", [])


def _downloaded(root: Path, part: Part) -> LocatedModel:
    """A part of a registered model that was downloaded with its files.json."""
    listed = FileList.model_validate_json((root / FILE_LIST).read_bytes())
    own = listed.of_part(part)
    present = {path.relative_to(root).as_posix() for path in (root / part).rglob("*") if path.is_file()}
    changed = changed_files(root, listed, own) + [f"{name} was not registered" for name in sorted(present - set(own))]
    if changed:
        raise ValidationError(
            f"{root} is not the model that was registered: {'; '.join(changed[:5])}. Download it again."
        )
    return LocatedModel(root / part, _template(root), f"its {FILE_LIST}, digest {listed.digest[:12]}", _rejected(root))


def _stored(url: str, part: Part, scratch: Path) -> LocatedModel:
    """A registered model by its URL, or any other model or adapter in the object store."""
    for root in (url, url.removesuffix(f"/{part}")):
        if storage.list_objects(f"{root}/{FILE_LIST}"):
            # The folder's name is the content digest.
            return _registered(root, root.rsplit("/", 1)[-1], root, part, scratch)
    required = _REQUIRED_FILES[part]
    if not storage.list_objects(f"{url}/{required}"):
        raise ConfigurationError(f"there is no {part} model at {url}: it holds no {required}")
    storage.download(url, scratch / part)
    return LocatedModel(scratch / part, None, "", [])


def _local(root: Path, part: Part) -> LocatedModel:
    required = _REQUIRED_FILES[part]
    folder = next((folder for folder in (root / part, root) if (folder / required).is_file()), None)
    if folder is None:
        hint = "" if root.exists() else "; the folder does not exist. `loraline run` trains a model into runs/latest"
        raise ConfigurationError(f"there is no {part} model in {root}: no {required} in it, nor in {root / part}{hint}")
    if folder != root and (root / FILE_LIST).is_file():
        return _downloaded(root, part)
    return LocatedModel(folder, _template(root), _verified_by_merge(root, folder, part), _rejected(root))


def _template(root: Path) -> Path | None:
    path = root / "merged" / _TEMPLATE
    return path if path.is_file() else None


def _rejected(root: Path) -> list[str]:
    path = root / VERDICT_PATH
    if not path.is_file():
        return []
    verdict = Verdict.model_validate_json(path.read_bytes())
    return verdict.reasons if verdict.verdict == "reject" else []


def _verified_by_merge(root: Path, folder: Path, part: Part) -> str:
    """Verify a run's model against the digest in its merge report; empty without a merge report."""
    merged = folder if part == "merged" else root / "merged"
    if not (merged / MergeReport.FILE).is_file():
        return ""
    report = MergeReport.load(merged)
    if part == "merged":
        digest, expected = model_digests.merged_digest(folder), report.merged_digest
    else:
        digest, expected = model_digests.adapter_digest(folder), report.adapter_digest
    if digest != expected:
        raise ValidationError(
            f"{folder} was altered after the merge: its digest is {digest}, and the merge report has {expected}. "
            "Run the pipeline again."
        )
    return f"the merge report, digest {expected[:12]}"
