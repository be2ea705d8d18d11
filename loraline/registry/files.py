"""The files of a registered model in the object store, and how they are verified.

A version's source is a folder named after its content digest. It holds adapter/, merged/, evidence/ and README.md, then
files.json, which lists these with size and digest, and last registered.json, written once the version exists.

Pages that are rendered from the other files have a digest of their own: another style makes other pages of the same
model, and no new version.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic import ValidationError as PydanticError

from loraline import storage
from loraline.artifacts.adapter_files import MASK_PAGE
from loraline.artifacts.verdict import EVIDENCE, Verdict
from loraline.errors import ValidationError
from loraline.identity.digests import digest_file, digest_pairs
from loraline.identity.model_digests import NOT_DIGESTED_IN_ADAPTER, NOT_DIGESTED_IN_MERGED, digest_listed

FILE_LIST = "files.json"
REGISTERED = "registered.json"
"""Written when the version has been created; without it the files are an incomplete registration."""
CARD = "README.md"
PAGE = "evidence/report.html"
PAGES = frozenset({CARD, PAGE, f"adapter/{MASK_PAGE}"})
"""Files that are rendered from the others."""
EVIDENCE_PATH = f"evidence/{EVIDENCE}"
VERDICT_PATH = f"evidence/{Verdict.FILE}"

Advance = Callable[[int, int], None]
"""Progress callback: bytes read, bytes in all."""

Part = Literal["adapter", "merged"]
"""A registered model's folders of weights."""

_MOST_NAMED = 5  # files in an error message


class StoredFile(BaseModel):
    """A file of a registered model."""

    model_config = ConfigDict(frozen=True)

    size: int
    """Bytes."""
    sha256: str


class FileList(BaseModel):
    """files.json: every other file of a registered model, by its path."""

    model_config = ConfigDict(frozen=True)

    files: dict[str, StoredFile]

    @property
    def digest(self) -> str:
        """The content digest: SHA-256 over the names and contents of all files but the rendered pages."""
        return digest_pairs((name, file.sha256) for name, file in self.files.items() if name not in PAGES)

    @property
    def pages_digest(self) -> str:
        """SHA-256 over the names and contents of the rendered pages."""
        return digest_pairs((name, file.sha256) for name, file in self.files.items() if name in PAGES)

    @property
    def size(self) -> int:
        """Total size in bytes."""
        return sum(file.size for file in self.files.values())

    @property
    def adapter_digest(self) -> str:
        """Digest of the adapter, as the evidence records it."""
        return digest_listed(self._part_digests("adapter"), without=NOT_DIGESTED_IN_ADAPTER)

    @property
    def merged_digest(self) -> str:
        """Digest of the merged model, as the evidence records it."""
        return digest_listed(self._part_digests("merged"), without=NOT_DIGESTED_IN_MERGED)

    def of_part(self, part: Part) -> list[str]:
        """The paths of a part's files."""
        return [name for name in self.files if name.startswith(f"{part}/")]

    def _part_digests(self, part: Part) -> list[tuple[str, str]]:
        return [(name.removeprefix(f"{part}/"), self.files[name].sha256) for name in self.of_part(part)]


def read_file_list(url: str, folder: Path) -> FileList:
    """Download and parse the list of a model's files.

    Args:
        url: the version's source.
        folder: where the file is downloaded to.

    Raises:
        ValidationError: the list is missing or invalid.
        StorageError: the store cannot be reached.
    """
    if not storage.list_objects(f"{url}/{FILE_LIST}"):
        raise ValidationError(
            f"there is no {FILE_LIST} at {url}: the files were deleted, or were not written by Loraline"
        )
    [path] = storage.download(f"{url}/{FILE_LIST}", folder)
    try:
        return FileList.model_validate_json(path.read_bytes())
    except PydanticError as error:
        first = error.errors()[0]
        raise ValidationError(f"{FILE_LIST} at {url} is not a list of files: {first['msg']}") from error


def fetch_part(
    url: str, content_digest: str, part: Part, folder: Path, also: Iterable[str] = (), advance: Advance | None = None
) -> FileList:
    """Download one part of a registered model and compare every file with the digest that was registered.

    Args:
        url: the version's source.
        content_digest: of the version, which the list of its files must have.
        part: the folder to download.
        folder: where the files go, under the same paths.
        also: paths of further files to download, where the list has them.
        advance: progress callback: files downloaded, files in all.

    Raises:
        ValidationError: the list or a file is missing or was altered, or the model has no such part.
        StorageError: the store cannot be reached.
    """
    listed = read_file_list(url, folder)
    if listed.digest != content_digest:
        raise ValidationError(
            f"{FILE_LIST} at {url} was altered: its files have the content digest {listed.digest}, and the version was "
            f"registered with {content_digest or 'none'}"
        )
    own = listed.of_part(part)
    if not own:
        raise ValidationError(f"{FILE_LIST} at {url} lists no file of the {part} model")
    wanted = [*own, *(name for name in also if name in listed.files)]
    stored = _sizes(url)
    _refuse_changed(url, [f"{name} is missing" for name in wanted if name not in stored])
    for done, name in enumerate(wanted, start=1):
        storage.download(f"{url}/{name}", (folder / name).parent)
        if advance:
            advance(done, len(wanted))
    _refuse_changed(url, changed_files(folder, listed, wanted))
    return listed


def changed_files(folder: Path, listed: FileList, names: Iterable[str]) -> list[str]:
    """Which of the named files are missing from a local folder, or have other bytes than those that were registered."""
    changed = []
    for name in names:
        if not (folder / name).is_file():
            changed.append(f"{name} is missing")
        elif (digest := digest_file(folder / name)) != listed.files[name].sha256:
            changed.append(f"{name} was altered: digest {digest[:12]} instead of {listed.files[name].sha256[:12]}")
    return changed


def _refuse_changed(url: str, changed: list[str]) -> None:
    if changed:
        more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
        raise ValidationError(
            f"the files at {url} are not those that were registered: {'; '.join(changed[:_MOST_NAMED])}{more}"
        )


def listing_problems(url: str, listed: FileList) -> list[str]:
    """Files of a model that are missing or have another size, and files that were not registered.

    Raises:
        StorageError: the store cannot be reached.
    """
    sizes = _sizes(url)
    problems = []
    for name, file in sorted(listed.files.items()):
        if name not in sizes:
            problems.append(f"{name} is missing")
        elif sizes[name] != file.size:
            problems.append(f"{name} has {sizes[name]:,} bytes instead of {file.size:,}")
    unregistered = sorted(sizes.keys() - listed.files.keys() - {FILE_LIST, REGISTERED})
    return problems + [f"{name} is there and was not registered" for name in unregistered]


def altered_files(url: str, listed: FileList, advance: Advance) -> list[str]:
    """Files with another digest than was registered. Each is streamed through the hash and not stored.

    Missing files are reported by `listing_problems`.

    Raises:
        StorageError: the store cannot be reached.
    """
    stored, read, altered = _sizes(url), 0, []
    for name, file in listed.files.items():
        if name not in stored:
            continue
        digest = hashlib.sha256()
        for piece in storage.read(f"{url}/{name}"):
            digest.update(piece)
            read += len(piece)
            advance(min(read, listed.size), listed.size)
        if digest.hexdigest() != file.sha256:
            altered.append(f"{name} has the digest {digest.hexdigest()[:12]} instead of {file.sha256[:12]}")
    return altered


def _sizes(url: str) -> dict[str, int]:
    """Size in bytes of each object in a folder, by its relative path."""
    prefix = storage.S3Url.parse(url).key + "/"
    return {item.key.removeprefix(prefix): item.size for item in storage.list_objects(url)}
