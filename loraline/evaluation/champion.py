"""Score the champion on the run's own rows: what a new model has to hold its own against."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from loraline import progress, storage
from loraline.errors import ValidationError
from loraline.evaluation.config import EvaluateConfig
from loraline.identity.digests import digest_file
from loraline.safety import Policy

if TYPE_CHECKING:
    from loraline.evaluation.report import ChampionReport

COPIED_EVIDENCE = "champion.json"
"""The champion's evidence, beside its figures."""


def evaluate_champion(
    config: EvaluateConfig,
    model: Path,
    dataset: Path,
    output: Path,
    champion: dict[str, str] | None,
    policy: Policy | None = None,
) -> "ChampionReport | None":
    """Score the champion as `evaluate` scores a model, and bring its evidence along.

    A champion that was trained on the run's own base is its adapter on `model`, so that both are held in memory in
    the same form; another is its merged model. Every file is fetched anew and must have the digest that it was
    registered with. Without a champion, metrics.json says so, and nothing is computed.

    Args:
        config: how much is scored, and which tasks are run.
        model: the run's own model folder.
        dataset: folder with eval.parquet.
        output: folder to write; as `evaluate` writes it, and champion.json, the champion's evidence.
        champion: `model_name`, `version`, `url`, `content_digest` and `base_digest`; None where there is none.
        policy: its probes are put to the champion.

    Raises:
        ValidationError: a file of the champion is gone or altered.
        StorageError: the object store does not answer.
    """
    output.mkdir(parents=True, exist_ok=True)
    if champion is None:
        (output / "metrics.json").write_text('{"champion": null}\n', encoding="utf-8")
        progress.headline("no champion yet")
        return None
    # A run without a champion, as every model's first is, is spared the seconds that these take to import.
    from loraline.evaluation.evaluate import evaluate
    from loraline.evaluation.report import ChampionReport, ScoredChampion, write_report
    from loraline.models.folder import read_manifest

    is_own_base = bool(champion["base_digest"]) and champion["base_digest"] == read_manifest(model).digest
    part = "adapter" if is_own_base else "merged"
    with tempfile.TemporaryDirectory() as folder:
        fetched = _fetch(champion, part, Path(folder))
        shutil.copyfile(fetched / "evidence" / "evidence.json", output / COPIED_EVIDENCE)
        if is_own_base:
            found = evaluate(config, model, dataset, output, fetched / "adapter", policy)
        else:
            progress.note("the champion was trained on another base: its merged model is scored, in 16 bit")
            _run_as(model, fetched / "merged")
            found = evaluate(config, fetched / "merged", dataset, output, policy=policy)
    named = {name: champion[name] for name in ("model_name", "version", "url", "content_digest")}
    report = ChampionReport(**found.model_dump(), champion=ScoredChampion(**named, scored=part))
    write_report(report, output)
    return report


def _fetch(champion: dict[str, str], part: str, folder: Path) -> Path:
    """Bring the evidence and one part of a champion into a folder, as they were registered."""
    from loraline.registry import EVIDENCE_PATH, FILE_LIST
    from loraline.registry.files import read_file_list

    url = champion["url"]
    progress.note(f"fetching {part} of version {champion['version']} of {champion['model_name']}, the champion")
    try:
        listed = read_file_list(url, folder)
    except ValidationError as error:
        raise _refused(champion, str(error)) from error
    if listed.digest != champion["content_digest"]:
        raise _refused(champion, f"{FILE_LIST} does not come to the digest that it was registered with")
    wanted = [name for name in listed.files if name == EVIDENCE_PATH or name.startswith(f"{part}/")]
    there = {item.key.removeprefix(storage.S3Url.parse(url).key + "/") for item in storage.list_objects(url)}
    gone = [name for name in wanted if name not in there]
    if gone or len(wanted) < 2 or EVIDENCE_PATH not in wanted:
        raise _refused(champion, f"{', '.join(gone[:5]) or part} is gone")
    for done, name in enumerate(wanted):
        [path] = storage.download(f"{url}/{name}", (folder / name).parent)
        if digest_file(path) != listed.files[name].sha256:
            raise _refused(champion, f"{name} was altered")
        progress.advance(done + 1, len(wanted), "files of the champion")
    return folder


def _refused(champion: dict[str, str], reason: str) -> ValidationError:
    name = champion["model_name"]
    return ValidationError(
        f"the champion, version {champion['version']} of {name} at {champion['url']}, cannot be compared with: "
        f"{reason}. Make another version the champion (loraline rollback {name}, or loraline promote {name} "
        "--version N), or bring the files back"
    )


def _run_as(model: Path, merged: Path) -> None:
    """Have a merged champion run in the type and on the device that the recipe asks for, and with no more trust."""
    from loraline.models.folder import read_manifest, write_manifest

    own, theirs = read_manifest(model), read_manifest(merged)
    asked = {name: getattr(own, name) for name in ("compute_dtype", "device", "attention")}
    trust = own.trust_remote_code and theirs.trust_remote_code
    write_manifest(merged, theirs.model_copy(update={**asked, "trust_remote_code": trust}))
