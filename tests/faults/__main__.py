"""Count what is caught, missed and wrongly alarmed about: `python -m tests.faults --help`."""

import argparse
import os
import re
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from loraline.errors import LoralineError
from pipelines.local import s3_server
from tests.faults.faults import FAULTS, WRONG_MERGES, Fault, chance, recipe
from tests.faults.steps import fine_tune
from tests.faults.world import World, make_world


def main() -> None:
    """Print a table: each fault over some seeds, and honest runs over more."""
    parser = argparse.ArgumentParser(description="Run the pipeline with each planted fault, and without any.")
    parser.add_argument("--honest-seeds", type=int, default=20, help="runs without a fault")
    parser.add_argument("--fault-seeds", type=int, default=3, help="runs with each fault")
    options = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with tempfile.TemporaryDirectory() as name, s3_server.serve(Path(name) / "s3") as store:
        os.environ.update(store, MLFLOW_TRACKING_URI=f"sqlite:///{name}/mlflow.db")
        with redirect_stdout(None):
            world = make_world(Path(name) / "world")
        print(f"{'fault':<50} {'runs':>4} {'caught':>6} {'by another reason':>17} {'missed':>6}")
        for fault in (*FAULTS, *WRONG_MERGES, chance):
            outcomes = [_outcome(world, Path(name), seed, fault) for seed in range(options.fault_seeds)]
            named = sum(bool(re.search(fault.named, reasons)) for reasons in outcomes)
            missed = sum(not reasons for reasons in outcomes)
            print(f"{fault.name:<50} {len(outcomes):>4} {named:>6} {len(outcomes) - named - missed:>17} {missed:>6}")
        alarms = [
            reasons for seed in range(options.honest_seeds) if (reasons := _outcome(world, Path(name), seed, None))
        ]
        print(f"{'none (false alarms)':<50} {options.honest_seeds:>4} {len(alarms):>6}")
        for reasons in alarms:
            print(f"    {reasons}")


def _outcome(world: World, folder: Path, seed: int, fault: Fault | None) -> str:
    """The reasons why a run's model is rejected; empty where it is promoted."""
    with tempfile.TemporaryDirectory(dir=folder) as name, redirect_stdout(None):
        try:
            evidence = fine_tune(
                recipe(world, Path(name), seed, fault), Path(name) / "run", fault.plants if fault else None
            )
        except LoralineError as error:
            return str(error)
    return "" if evidence.verdict.verdict == "promote" else "; ".join(evidence.verdict.reasons)


if __name__ == "__main__":
    main()
