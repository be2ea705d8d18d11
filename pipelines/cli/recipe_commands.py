"""Commands on recipes and pipelines that run nothing: `validate`, `recipes`, `plan`, `compile`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from loraline import progress
from loraline.recipe_file import load_recipe, shipped_recipes
from pipelines.cli.exits import FAILED, exit_on_error
from pipelines.cli.options import Overrides, RecipeArgument
from pipelines.compile import compile_pipelines
from pipelines.local.services import HOME, services

app = typer.Typer()


@app.command()
def validate(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """Check a recipe and print it with all defaults filled in; report every error at once."""
    import yaml

    with exit_on_error():
        with progress.shown_by(progress.ErrorLines()):
            checked = load_recipe(recipe, overrides or [])
        typer.echo(yaml.safe_dump(checked.model_dump(mode="json"), sort_keys=False).rstrip())


@app.command()
def recipes() -> None:
    """List the recipes that come with Loraline."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("recipe", "model", "data", "quantization"):
        table.add_column(column)
    with exit_on_error():
        for name in shipped_recipes():
            recipe = load_recipe(name, environment={})
            table.add_row(name, recipe.model.source, recipe.data.names(), recipe.model.quantization)
    Console().print(table)


@app.command()
def plan(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    accelerator: Annotated[
        str | None, typer.Option(help="A GPU that this machine need not have, such as H200, A100-80GB, L4 or T4.")
    ] = None,
) -> None:
    """Say whether a recipe's base can be trained, merged and exported, and whether it fits into memory.

    Tells which settings to change where it does not. Reads the model's configuration and the headers of its files, no
    weights. Exits with 1 if the recipe does not fit.
    """
    from loraline.feasibility import check_feasibility
    from loraline.memory_plan import plan_memory
    from pipelines.local.console import show_feasibility, show_memory_plan

    with exit_on_error():
        checked = load_recipe(recipe, overrides or [])
        with services(HOME):
            feasibility = check_feasibility(checked.model, checked.training)
            feasibility.require()
            show_feasibility(Console(), feasibility)
            memory = plan_memory(checked, accelerator)
        show_memory_plan(Console(), memory)
    raise typer.Exit(0 if memory.fits else FAILED)


@app.command("compile")
def compile_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the packages.")] = Path("build"),
) -> None:
    """Compile the pipelines into packages for a KFP server: finetune, retrain and promote."""
    with exit_on_error():
        for package in compile_pipelines(output):
            typer.echo(f"wrote {package}")
