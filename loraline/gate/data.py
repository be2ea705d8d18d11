"""What the data can have against a model: rows that are not there, and held-out rows that were learned."""

from loraline.evidence.schema import Check, Findings, Thresholds
from loraline.gate.wording import above, check, ids, missing, number, part


def data(findings: Findings) -> Check:
    """There must be rows on both sides of the split."""
    report = findings.data
    if not report:
        return check("data", [missing("the dataset's report (report.json)")], "")
    train, held_out = (number(report, "rows", side) for side in ("train", "eval"))
    faults = [
        f"the dataset has {'an unknown number of' if count is None else 'no'} rows {purpose}"
        for count, purpose in ((train, "to train on"), (held_out, "held out"))
        if not count
    ]
    fingerprint = str(report.get("fingerprint") or "")
    if not fingerprint:
        faults.append("the dataset's report names no fingerprint")
    return check("data", faults, f"{train:,.0f} rows to train on, {held_out:,.0f} held out, dataset {fingerprint[:12]}")


def contamination(findings: Findings, held_to: Thresholds) -> Check:
    """Few enough of the held-out rows may stand, word for word or nearly so, among the training rows."""
    if not findings.data:
        return check("contamination", [missing("the dataset's report (report.json)")], "")
    copied, near = _copied(findings), _near(findings)
    held_out = number(findings.data, "contamination", "eval_examples")
    if copied is None or near is None or not held_out:
        return check("contamination", ["the dataset's report does not say how many held-out rows training saw"], "")
    names = [str(name) for name in part(findings.data, "contamination").get("ids") or []]
    which = f" ({ids(names)})" if names else ""
    limit = f"gate.max_contamination = {held_to.max_contamination:g}"
    said = [
        f"{copied:,.0f} of {held_out:,.0f} held-out rows are copied in training rows, "
        f"fraction {copied / held_out:.4g}{which}",
        f"{near:,.0f} training rows nearly repeat one of them, fraction {near / held_out:.4g}",
    ]
    faults = [
        f"{sentence}: more than {limit}"
        for sentence, count in zip(said, (copied, near), strict=True)
        if above(count / held_out, held_to.max_contamination)
    ]
    return check("contamination", faults, f"{'; '.join(said)}: within {limit}")


def is_contaminated(findings: Findings) -> bool:
    """Whether training is known to have seen a held-out row or one that is nearly the same, allowed or not."""
    return bool(_copied(findings) or _near(findings))


def _copied(findings: Findings) -> float | None:
    return number(findings.data, "contamination", "contaminated")


def _near(findings: Findings) -> float | None:
    """Training rows that nearly repeat a held-out row, and were not left out for that."""
    found = part(findings.data, "near_duplicates")
    return 0.0 if found.get("action") == "drop" else number(found, "across")
