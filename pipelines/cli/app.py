"""The command line: `loraline --help`. Each group of commands is a module of this package."""

import logging

import typer

from pipelines.cli import (
    audit_commands,
    cluster_commands,
    infer_command,
    model_commands,
    phase_commands,
    recipe_commands,
    run_commands,
    schedule_commands,
)
from pipelines.cli.exits import MEANINGS

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at import about kernels that are not needed here

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=f"""Fine-tune language models with LoRA and QLoRA, as one Kubeflow pipeline that also runs on this machine.

    **Start here:** `loraline run quickstart` trains, evaluates, merges and registers a model in minutes:
    no cluster, GPU or account.

    **Then your own data:** `loraline run quickstart data.source=my.jsonl`, or write a recipe file and run that
    (`loraline validate quickstart` prints one to start from).

    Every setting of a recipe can be set on the command line (`training.learning_rate=1e-4`) and in the environment
    (`LORALINE_TRAINING__LEARNING_RATE=1e-4`). Results are written to `runs/`; caches and stores are in `.loraline/`.

    {MEANINGS}
    """,
)

for _group in (run_commands, phase_commands, recipe_commands, infer_command, model_commands, cluster_commands):
    app.add_typer(_group.app)
app.add_typer(schedule_commands.app, name="schedule")
app.add_typer(audit_commands.app, name="audit")


if __name__ == "__main__":
    app()
