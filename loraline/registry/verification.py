"""The checks of a model version: files, evidence and tags must belong together."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.entities.model_registry import ModelVersion

from loraline import storage
from loraline.artifacts.verdict import Verdict
from loraline.errors import ValidationError
from loraline.evidence.schema import Check, Evidence
from loraline.gate.weigh import weigh
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
from loraline.registry.tags import DIGEST_TAG, PAGES_TAG, evidence_tags
from loraline.units import format_bytes

_MOST_SHOWN = 5


def check_version(version: ModelVersion, advance: Advance) -> list[Check]:
    """Check a model version: its list of files, the evidence, the tags, and then the bytes of every file.

    A check that cannot be made because an earlier one failed fails too.

    Args:
        version: of the registry.
        advance: progress callback.

    Raises:
        StorageError: the store cannot be reached.
    """
    checks, listed = _check_without_weights(version)
    return [*checks, _bytes_check(str(version.source), listed, advance)] if listed else checks


def require_proof(version: ModelVersion, advance: Advance) -> None:
    """Require that every check of a version passes; its weights are read only if all others do.

    Raises:
        ValidationError: a check fails; the message names all that do.
        StorageError: the store cannot be reached.
    """
    checks, listed = _check_without_weights(version)
    _refuse_failed(version, checks)
    assert listed  # else a check has failed
    _refuse_failed(version, [_bytes_check(str(version.source), listed, advance)])


def check_evidence(evidence: Evidence, files: FileList) -> list[Check]:
    """Check that evidence gives the verdict that it states, and that it was measured on these files."""
    return [_verdict_check(evidence), _evaluated_files_check(evidence, files), _base_check(evidence)]


def _check_without_weights(version: ModelVersion) -> tuple[list[Check], FileList | None]:
    """The checks that read no weights, and the list of files if it can be read."""
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
    """The list's digests are tags of the version, and one is in the address: neither can be replaced alone."""
    tags = {DIGEST_TAG: listed.digest, PAGES_TAG: listed.pages_digest}
    problems = [
        f"the tag {tag} is {_short(version.tags.get(tag, ''))}, and the files have the digest {_short(digest)}"
        for tag, digest in tags.items()
        if version.tags.get(tag) != digest
    ]
    folder = str(version.source).rsplit("/", 1)[-1]
    if folder != listed.digest:
        problems.append(f"the folder is {folder[:12]!r}, and should be named {_short(listed.digest)}")
    return _check("list of files", problems, f"{len(listed.files)} files, content digest {_short(listed.digest)}")


def _presence_check(url: str, listed: FileList) -> Check:
    required = (EVIDENCE_PATH, VERDICT_PATH, PAGE, CARD)
    problems = [f"{name} is not in the list" for name in required if name not in listed.files]
    problems += listing_problems(url, listed)
    return _check("files", problems, f"all there in their sizes, {format_bytes(listed.size)}, with page and model card")


def _evidence_checks(version: ModelVersion, listed: FileList, folder: Path) -> list[Check]:
    try:
        evidence = _read_evidence(str(version.source), folder)
        stated = Verdict.load(folder)
    except ValidationError as error:
        rest = ("verdict", "evaluated files", "base", "tags")
        return [
            _check("evidence", [str(error)]),
            *(_check(name, ["not made: the evidence cannot be read"]) for name in rest),
        ]
    problems = [] if stated == evidence.verdict else [f"{Verdict.FILE} has another verdict than {Evidence.FILE}"]
    return [
        _check("evidence", problems, f"can be read, version {evidence.version}"),
        *check_evidence(evidence, listed),
        _tags_check(version, evidence, listed),
    ]


def _read_evidence(url: str, folder: Path) -> Evidence:
    for path in (EVIDENCE_PATH, VERDICT_PATH):
        if not storage.list_objects(f"{url}/{path}"):
            raise ValidationError(f"{path} is missing")
        storage.download(f"{url}/{path}", folder)
    return Evidence.load(folder)


def _verdict_check(evidence: Evidence) -> Check:
    """The findings must give the stated checks and verdict again, and the verdict must be promote."""
    stated, weighed = evidence.verdict, weigh(evidence)
    problems = [] if stated.verdict == "promote" else [f"it is {stated.verdict}: {'; '.join(stated.reasons)}"]
    if weighed.verdict != stated:
        again = f"{weighed.verdict.verdict}, not the stated verdict: {weighed.verdict.reasons[0]}"
        problems.append(f"computed again, the findings give {again}")
    for name, is_same in (
        ("checks", weighed.checks == evidence.checks),
        ("comparisons", weighed.comparisons == evidence.comparisons),
        ("forgetting", weighed.forgetting == evidence.forgetting),
    ):
        if not is_same:
            problems.append(f"computed again, its {name} are different")
    return _check("verdict", problems, "promote, and the findings give the same verdict again")


def _evaluated_files_check(evidence: Evidence, files: FileList) -> Check:
    """The evidence names the digests of the merged model that was evaluated, and of what the merge compared."""
    tuned, merge = evidence.tuned, evidence.merge
    problems = []
    for what, named, digest in (
        ("the model that it evaluated", tuned and tuned.weights.merged_digest, files.merged_digest),
        ("the adapter that it merged", merge and merge.adapter_digest, files.adapter_digest),
        ("the merged model that it compared", merge and merge.merged_digest, files.merged_digest),
    ):
        if not named:
            problems.append(f"the evidence does not name {what}")
        elif named != digest:
            problems.append(f"{what} is {_short(named)}, and these files are {_short(digest)}")
    return _check("evaluated files", problems, "the evidence names the digests of this adapter and this merged model")


def _base_check(evidence: Evidence) -> Check:
    """Training and merge must name the same base."""
    trained, merged = (report.base_digest if report else "" for report in (evidence.training, evidence.merge))
    problems = [
        f"the {step} does not name its base" for step, base in (("training", trained), ("merge", merged)) if not base
    ]
    if trained and merged and trained != merged:
        problems.append(f"the adapter was trained on the base {_short(trained)}, and merged into {_short(merged)}")
    return _check("base", problems, f"trained on and merged into {_short(trained)}")


def _tags_check(version: ModelVersion, evidence: Evidence, listed: FileList) -> Check:
    expected = evidence_tags(evidence, listed)
    problems = [
        f"{key} is {version.tags[key]!r}, and the evidence says {value!r}"
        if key in version.tags
        else f"{key} is missing"
        for key, value in expected.items()
        if version.tags.get(key) != value
    ]
    return _check("tags", problems, f"{len(expected)} tags say what the evidence says")


def _bytes_check(url: str, listed: FileList, advance: Advance) -> Check:
    problems = altered_files(url, listed, advance)
    return _check("bytes", problems, f"{len(listed.files)} files have the digests that they were registered with")


def _check(name: str, problems: list[str], detail: str = "") -> Check:
    """A check that passes where there is no problem; its detail names the first problems."""
    more = [f"and {len(problems) - _MOST_SHOWN} more"] if len(problems) > _MOST_SHOWN else []
    return Check(
        name=name,
        outcome="failed" if problems else "passed",
        detail="; ".join([*problems[:_MOST_SHOWN], *more]) or detail,
    )


def _short(digest: str) -> str:
    return digest[:12] or "none"
