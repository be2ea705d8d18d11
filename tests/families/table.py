"""The table in docs/families.md: a row for each family, written from what came of trying it.

    python -m tests.families.table

tries all families and writes the table anew; it takes some minutes.
"""

import tempfile
import warnings
from pathlib import Path

from loraline import progress
from tests.families.families import FAMILIES, Family
from tests.families.trial import Trial, attempt

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
_HEADER = "| `model_type` | result | layers with an adapter by default |\n|---|---|---|\n"


def row(family: Family, trial: Trial) -> str:
    """A family's line."""
    result = f"refused: {' '.join(trial.reason.split())}" if trial.reason else "trained, merged, evaluated"
    return f"| `{family.model_type}` | {result} | {trial.adapted} |"


def read_table() -> dict[str, str]:
    """The lines of the page, by family."""
    lines = PAGE.read_text(encoding="utf-8").partition(_HEADER)[2].splitlines()
    return {line.split("`")[1]: line for line in lines if line.startswith("| `")}


def main() -> None:
    """Try all families, and write their lines."""
    warnings.filterwarnings("ignore")
    lines = []
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder, progress.shown_by(progress.NoOutput()):
            lines.append(row(family, attempt(family, Path(folder))))
        print(lines[-1], flush=True)
    text = PAGE.read_text(encoding="utf-8").partition(_HEADER)[0]
    PAGE.write_text(text + _HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
