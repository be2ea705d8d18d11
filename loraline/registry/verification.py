"""Whether a model version is what its evidence says: every check that can be made of it from outside."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.entities.model_registry import ModelVersion

from loraline import storage
from loraline.artifacts.verdict import Verdict
from loraline.errors import ValidationError
from loraline.evidence.schema import Check, Evidence
from loraline.gate.weigh import Weighing, weigh
from loraline.registry.files import (
    CARD,
    EVIDENCE_PATH,
    PAGE,
    VERDICT_PATH,
    Advance,
    FileList,
    altered_files,
    listing_problems,
    read_file_list,
)
from loraline.registry.tags import DIGEST_TAG, evidence_tags
from loraline.units import format_bytes

_MOST_SHOWN = 5


def check_version(version: ModelVersion, advance: Advance) -> list[Check]:
    """Check a model version: its list of files, the evidence, the tags, and then the bytes of every file.

    What cannot be told because an earlier check failed is a failed check itself.

    Args:
        version: of the registry.
        advance: told how far the reading of the files is.

    Raises:
        StorageError: the store is away.
    """
    checks, listed = _quick_checks(version)
    return [*checks, _bytes_check(str(version.source), listed, advance)] if listed else checks


def require_proof(version: ModelVersion, advance: Advance) -> None:
    """See that every check of a version passes; its weights are read only where all others do.

    Raises:
        ValidationError: a check fails; the message names all that do.
        StorageError: the store is away.
    """
    checks, listed = _quick_checks(version)
    _refuse_failed(version, checks)
    assert listed  # else a check has failed
    _refuse_failed(version, [_bytes_check(str(version.source), listed, advance)])


def check_evidence(evidence: Evidence, files: FileList) -> list[Check]:
    """See that evidence comes to the verdict that stands in it, and that it was found on these very files."""
    return [_verdict_check(evidence), _judged_check(evidence, files), _base_check(evidence)]


def _judged_check(evidence: Evidence, files: FileList) -> Check:
    """The evidence names the digests of the adapter that was evaluated, and of what the merge compared."""
    tuned, merge, odd = evidence.tuned, evidence.merge, []
    for what, named, found in (
        ("the adapter that it evaluated", tuned and tuned.adapter_digest, files.adapter_digest),
        ("the adapter that it merged", merge and merge.adapter_digest, files.adapter_digest),
        ("the merged model that it compared", merge and merge.merged_digest, files.merged_digest),
    ):
        if not named:
            odd.append(f"the evidence does not name {what}")
        elif named != found:
            odd.append(f"{what} is {_short(named)}, and these files are {_short(found)}")
    return _check("judged files", odd, "the evidence names the digests of this adapter and this merged model")


def _quick_checks(version: ModelVersion) -> tuple[list[Check], FileList | None]:
    """The checks that read no weights, and the list of files where there is one."""
    url = str(version.source)
    if urlsplit(url).scheme != "s3":
        return [_check("list of files", [f"{url!r} is no address of an object store"])], None
    with tempfile.TemporaryDirectory() as folder:
        try:
            listed = read_file_list(url, Path(folder))
        except ValidationError as error:
            return [_check("list of files", [str(error)])], None
        checks = [_list_check(version, listed), _presence_check(url, listed)]
        return [*checks, *_evidence_checks(version, listed, Path(folder))], listed


def _refuse_failed(version: ModelVersion, checks: Iterable[Check]) -> None:
    failed = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
    if failed:
        raise ValidationError(
            f"version {version.version} of {version.name} has no proof that stands: {'; '.join(failed)}. "
            f"Look with `loraline verify models:/{version.name}/{version.version}`; register the model again."
        )


def _list_check(version: ModelVersion, listed: FileList) -> Check:
    """The list's digest is on the version and in the address: neither can be replaced without the other."""
    digest, tagged = listed.digest, version.tags.get(DIGEST_TAG, "")
    odd = (
        []
        if digest == tagged
        else [f"the tag {DIGEST_TAG} is {_short(tagged)}, and the files come to {_short(digest)}"]
    )
    if not str(version.source).endswith(f"/{digest}"):
        odd.append(
            f"the folder is {str(version.source).rsplit('/', 1)[-1][:12]!r}, and should be named {_short(digest)}"
        )
    return _check("list of files", odd, f"{len(listed.files)} files, content digest {_short(digest)}")


def _presence_check(url: str, listed: FileList) -> Check:
    wanted = (EVIDENCE_PATH, VERDICT_PATH, PAGE, CARD)
    odd = [f"{name} is not among them" for name in wanted if name not in listed.files] + listing_problems(url, listed)
    return _check("files", odd, f"all there in their sizes, {format_bytes(listed.size)}, with page and model card")


def _evidence_checks(version: ModelVersion, listed: FileList, folder: Path) -> list[Check]:
    url = str(version.source)
    try:
        evidence = _read(url, folder)
    except ValidationError as error:
        unknown = "cannot be told: there is no evidence to read"
        rest = ("verdict", "judged files", "base", "tags")
        return [_check("evidence", [str(error)]), *(_check(name, [unknown]) for name in rest)]
    return [
        _check("evidence", _unlike_verdict_file(evidence, folder), f"can be read, version {evidence.version}"),
        *check_evidence(evidence, listed),
        _tags_check(version, evidence, listed),
    ]


def _read(url: str, folder: Path) -> Evidence:
    for path in (EVIDENCE_PATH, VERDICT_PATH):
        if not storage.list_objects(f"{url}/{path}"):
            raise ValidationError(f"{path} is missing")
        storage.download(f"{url}/{path}", folder)
    return Evidence.load(folder)


def _unlike_verdict_file(evidence: Evidence, folder: Path) -> list[str]:
    stated = Verdict.load(folder)
    return [] if stated == evidence.verdict else ["verdict.json says something else than evidence.json"]


def _verdict_check(evidence: Evidence) -> Check:
    """Weighed again, the findings must come to what stands there, and that must be a promotion."""
    stated = evidence.verdict
    odd = [] if stated.verdict == "promote" else [f"it is {stated.verdict}: {'; '.join(stated.reasons)}"]
    weighed = weigh(evidence)
    if weighed.verdict != stated:
        now = weighed.verdict
        odd.append(f"weighed again, the findings come to {now.verdict}, not to what stands there: {now.reasons[0]}")
    parts = ("checks", "comparisons", "forgetting")
    odd += [f"weighed again, its {name} come out otherwise" for name in parts if _unlike(weighed, evidence, name)]
    return _check("verdict", odd, "promote, and the findings weighed again come to the same")


def _unlike(weighed: Weighing, evidence: Evidence, part: str) -> bool:
    return bool(getattr(weighed, part) != getattr(evidence, part))


def _base_check(evidence: Evidence) -> Check:
    """The adapter's base, from training through the merge, must be one."""
    trained, merged = (report.base_digest if report else "" for report in (evidence.training, evidence.merge))
    odd = [
        f"the {step} does not name its base" for step, base in (("training", trained), ("merge", merged)) if not base
    ]
    if trained and merged and trained != merged:
        odd.append(f"the adapter was trained on the base {_short(trained)}, and merged into {_short(merged)}")
    return _check("base", odd, f"trained on and merged into {_short(trained)}")


def _tags_check(version: ModelVersion, evidence: Evidence, listed: FileList) -> Check:
    expected = evidence_tags(evidence, listed)
    odd = [
        f"{key} is {version.tags[key]!r}, and the evidence says {value!r}"
        if key in version.tags
        else f"{key} is missing"
        for key, value in expected.items()
        if version.tags.get(key) != value
    ]
    return _check("tags", odd, f"{len(expected)} tags say what the evidence says")


def _bytes_check(url: str, listed: FileList, advance: Advance) -> Check:
    odd = altered_files(url, listed, advance)
    return _check("bytes", odd, f"{len(listed.files)} files have the digests that they were registered with")


def _check(name: str, odd: list[str], found: str = "") -> Check:
    """A check that passes where nothing is odd; the first of what is stands in its detail."""
    more = [f"and {len(odd) - _MOST_SHOWN} more"] if len(odd) > _MOST_SHOWN else []
    return Check(name=name, passed=not odd, detail="; ".join([*odd[:_MOST_SHOWN], *more]) or found)


def _short(digest: str) -> str:
    return digest[:12] or "none"
