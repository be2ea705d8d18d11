"""The check `template`: training, evaluation and serving render the same conversation into the same tokens."""

from typing import Literal

from loraline.evidence.schema import Check, Findings
from loraline.gate.measurements import Measurements
from loraline.gate.wording import make_check, not_made, not_measured, some_ids

_TUNED = "the tuned model's evaluation"
# Base and tuned model are scored on the same examples, so that no two sources are left uncompared.
_COMPARED = (("training", _TUNED), ("the base's evaluation", _TUNED), ("serving", _TUNED), ("training", "serving"))


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check that the digests of the prompts' token ids are equal wherever a prompt occurs twice."""
    mask, merge = findings.mask, findings.merge
    if mask is None or merge is None or not findings.examples:
        return make_check("template", _missing(findings))
    if all(example.prompt is None for example in findings.examples):
        return not_measured("template", "the rows are plain text, to which no template is applied")
    base, tuned = _evaluated(findings, "base"), _evaluated(findings, "tuned")
    sources = {"training": mask.prompts, "the base's evaluation": base, _TUNED: tuned, "serving": merge.prompts}
    faults = [f"{name} names no prompt" for name, prompts in sources.items() if not prompts]
    for one, other in _COMPARED:
        if sources[one] and sources[other]:
            faults += _differences(one, sources[one], other, sources[other])
    compared = (mask.prompts.keys() | merge.prompts.keys()) & tuned.keys()
    return make_check(
        "template", faults, f"{len(compared)} prompts have the same tokens in training, evaluation and serving"
    )


def _missing(findings: Findings) -> list[str]:
    faults = [] if findings.mask else not_made(findings, "mask")
    faults += [] if findings.merge else not_made(findings, "merge")
    return faults + ([] if findings.examples else ["not made: base and tuned model have no scored example in common"])


def _evaluated(findings: Findings, model: Literal["base", "tuned"]) -> dict[str, str]:
    """By id, the digests of the prompts that a model was evaluated with."""
    scores = {example.id: example.base if model == "base" else example.tuned for example in findings.examples}
    return {id_: score.prompt_digest for id_, score in scores.items() if score.prompt_digest is not None}


def _differences(one: str, ours: dict[str, str], other: str, theirs: dict[str, str]) -> list[str]:
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return [f"{one} and {other} have no prompt in common"]
    if different := [id_ for id_ in shared if ours[id_] != theirs[id_]]:
        count = f"{len(different)} of {len(shared)}"
        return [f"{count} prompts have other tokens in {one} than in {other} ({some_ids(different)})"]
    return []
