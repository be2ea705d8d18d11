"""The check `completeness`: every report is there, and the thresholds are those of the recipe."""

from loraline.artifacts.base import Report
from loraline.evidence.schema import Check, Findings, PartName
from loraline.gate.measurements import Measurements
from loraline.gate.wording import make_check, unavailable


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check that nothing is missing or unreadable, as what was not measured proves nothing."""
    champion = findings.champion
    is_champion_evaluated = champion is not None and (champion.champion is None or champion.evaluation is not None)
    reports: dict[PartName, Report | None] = {
        "data": findings.data,
        "base": findings.base,
        "tuned": findings.tuned,
        "champion": champion if is_champion_evaluated else None,
        "training": findings.training,
        "mask": findings.mask,
        "merge": findings.merge,
    }
    missing = [part for part, report in reports.items() if report is None]
    missing += [part for part in findings.unreadable if part not in missing]
    faults = [unavailable(findings, part) for part in missing]
    if not findings.examples and not {"base examples", "tuned examples"} & findings.unreadable.keys():
        faults.append("base and tuned model have no scored example in common")
    if differences := _differences(findings):
        faults.append(f"the model was held to other thresholds than the recipe sets: {', '.join(differences)}")
    return make_check("completeness", faults, f"all {len(reports) + 1} parts are there")


def _differences(findings: Findings) -> list[str]:
    """Thresholds that are not those of the recipe, which is written out in the lineage."""
    recipe = findings.lineage.recipe.get("gate")
    if recipe is None:
        return []
    return [
        f"gate.{name} = {recipe.get(name)!r}, held to {value!r}"
        for name, value in findings.thresholds.model_dump(mode="json").items()
        if recipe.get(name) != value
    ]
