"""One phase at a time, on folders of your own: `prepare`, `train`, `evaluate`, `merge`, `report`."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loraline.errors import ConfigurationError
from pipelines.cli.exits import FAILED, exit_on_error
from pipelines.cli.options import Overrides
from pipelines.local.services import HOME, configure, services

if TYPE_CHECKING:
    from loraline.finetune.results import ReportPage
    from loraline.recipe import Recipe

_PANEL = "One phase at a time"
_NEEDING_SERVICES = ("s3://", "models:")

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="The base model: a Hub id, a folder, s3://bucket/prefix, models:/name@alias; or a recipe's name or file."
    ),
]
AdapterOption = Annotated[
    str | None, typer.Option("--adapter", "-a", help="A PEFT folder or a Hub id.", show_default=False)
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")]

app = typer.Typer(rich_markup_mode="markdown")


@app.command(rich_help_panel=_PANEL)
def prepare(
    rows: Annotated[
        str,
        typer.Argument(
            help="A file or folder (jsonl, csv, xlsx, ...), s3://, hf://owner/dataset@train; also my.jsonl[:1000]."
        ),
    ],
    overrides: Overrides = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The base model, whose tokenizer is used; or a recipe's name or file.")
    ] = "",
    output: Output = Path("data"),
    eval_rows: Annotated[str, typer.Option(help="Rows to evaluate on. Default: a part of ROWS.")] = "",
    general_rows: Annotated[
        str, typer.Option(help="Rows to measure forgetting on; never trained on. Default: questions of many kinds.")
    ] = "",
) -> None:
    """Read, check, deduplicate and split rows, and describe them on a page, `report.html`.

    Example: `loraline prepare my.jsonl --model HuggingFaceTB/SmolLM2-135M-Instruct -o data data.eval_fraction=0.2`
    """
    with _ready(rows, model, eval_rows, general_rows):
        if not model:
            raise ConfigurationError("whose tokenizer? Name the base model with --model")
        from loraline.finetune.inputs import prepare_into

        sources = {"source": rows, "eval_source": eval_rows or None, "general_source": general_rows or None}
        prepare_into(_recipe(model, overrides, sources), output)
        typer.echo(output / "report.html")


@app.command(rich_help_panel=_PANEL)
def train(
    model: ModelArgument,
    overrides: Overrides = None,
    data: Annotated[Path, typer.Option("--data", "-d", help="A folder of `loraline prepare`.")] = Path("data"),
    output: Output = Path("adapter"),
) -> None:
    """Train an adapter on prepared rows, in PEFT's layout. Interrupted, it resumes with the same command.

    Example: `loraline train HuggingFaceTB/SmolLM2-135M-Instruct --data data -o adapter training.rank=8`
    """
    with _ready(model):
        from loraline.finetune.folders import train_into

        typer.echo(train_into(_recipe(model, overrides), data, output))


@app.command(rich_help_panel=_PANEL)
def evaluate(
    model: ModelArgument,
    overrides: Overrides = None,
    adapter: AdapterOption = None,
    data: Annotated[
        str, typer.Option("--data", "-d", help="A folder of `loraline prepare`; or rows, all of which are evaluated.")
    ] = "data",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Keep figures and answers here.", show_default=False)
    ] = None,
) -> None:
    """Evaluate a model; with an adapter, base against tuned on the same rows.

    Example: `loraline evaluate HuggingFaceTB/SmolLM2-135M-Instruct --adapter adapter --data data -o evaluation`
    """
    with _ready(model, data), tempfile.TemporaryDirectory() as folder:
        from loraline.finetune.folders import evaluate_into
        from loraline.sources.adapter_source import find_adapter

        recipe = _recipe(model, overrides)
        chosen = find_adapter(adapter) if adapter else None
        rows = _held_out(recipe, data, Path(folder) / "rows")
        typer.echo(evaluate_into(recipe, rows, output or Path(folder) / "evaluation", chosen))


@app.command(rich_help_panel=_PANEL)
def merge(
    adapter: Annotated[str, typer.Argument(help="A PEFT folder or a Hub id.")],
    overrides: Overrides = None,
    base: Annotated[
        str, typer.Option("--base", "-b", help="The base model. Default: the one that the adapter names.")
    ] = "",
    data: Annotated[
        str, typer.Option("--data", "-d", help="As of `evaluate`. Default: none, and parity is not measured.")
    ] = "",
    output: Output = Path("merged"),
) -> None:
    """Merge an adapter into its base, and compare the merged model with the adapter on its base.

    Exits with 1 if they differ by more than merge.max_divergence or merge.max_effect_change allow.

    Example: `loraline merge adapter --data data -o merged`
    """
    with _ready(base, data), tempfile.TemporaryDirectory() as folder:
        from loraline.finetune.inputs import cached_base
        from loraline.finetune.phases import merge as merge_phase
        from loraline.finetune.results import MergeResult
        from loraline.sources.adapter_source import base_of_adapter, find_adapter

        chosen = find_adapter(adapter)
        named, revision = base_of_adapter(chosen)
        if not (base or named):
            raise ConfigurationError(f"{adapter} does not name its base; name it with --base")
        recipe = _recipe(base or named, overrides, revision="" if base else revision)
        rows = _held_out(recipe, data, Path(folder) / "rows") if data else None
        result = MergeResult(output, merge_phase(recipe, cached_base(recipe), chosen, rows, output))
        typer.echo(result)
        if result.report.exceeds_thresholds:
            raise typer.Exit(FAILED)


@app.command(rich_help_panel=_PANEL)
def report(
    evidence: Annotated[Path, typer.Argument(help="A folder with evidence.json, such as runs/latest/evidence.")],
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("report.html"),
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", help="Folder of `prepare`.", show_default=False, rich_help_panel="To judge first"),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            "--evaluation",
            "-e",
            help="Folder of `evaluate --adapter -o`.",
            show_default=False,
            rich_help_panel="To judge first",
        ),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            "--adapter", "-a", help="Folder of `train`.", show_default=False, rich_help_panel="To judge first"
        ),
    ] = None,
    merged: Annotated[
        Path | None,
        typer.Option(
            "--merged", "-m", help="Folder of `merge --data`.", show_default=False, rich_help_panel="To judge first"
        ),
    ] = None,
) -> None:
    """Show a tuned model's evidence on one page: verdict, checks, figures, answers, curves.

    Given the folders of the other phases, the gate judges them first and writes EVIDENCE (`gate.metric=exact_match`
    and the like set its thresholds).

    Example: `loraline report evidence -d data -e evaluation -a adapter -m merged -o page.html`
    """
    with _ready():
        folders = {"--data": data, "--evaluation": evaluation, "--adapter": adapter, "--merged": merged}
        page = _page(evidence, overrides, folders)
        typer.echo(page)
        typer.echo(page.save(output))


def _page(evidence: Path, overrides: list[str] | None, folders: dict[str, Path | None]) -> "ReportPage":
    given = [folder for folder in folders.values() if folder is not None]
    if not given:
        from loraline.evidence.schema import Evidence
        from loraline.finetune.phases import make_page

        return make_page(Evidence.load(evidence))
    if missing := [option for option, folder in folders.items() if folder is None]:
        raise ConfigurationError(f"to judge the folders of the phases, name all of them: {', '.join(missing)} missing")
    from loraline.finetune.folders import judge_into
    from loraline.sources.adapter_source import base_of_adapter

    rows, evaluation, adapter, merged = given
    recipe = _recipe(base_of_adapter(adapter)[0] or "unknown", overrides)
    return judge_into(recipe, rows, evaluation, adapter, merged, evidence)


@contextmanager
def _ready(*addresses: str) -> Iterator[None]:
    """Set up the environment: the cache, and the stores where an address needs them. Errors become exit statuses."""
    # Before torch is imported: OpenMP threads that spin while they wait starve each other on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with ExitStack() as stack:
        stack.enter_context(exit_on_error())
        if any(address.startswith(_NEEDING_SERVICES) for address in addresses):
            stack.enter_context(services(HOME))
        else:
            configure(HOME)
        yield


def _recipe(
    model: str, overrides: list[str] | None, sources: dict[str, str | None] | None = None, revision: str = ""
) -> "Recipe":
    """Settings of a phase: those of a model or a recipe, with the command line's over them."""
    from loraline.finetune.overrides import build, starting_values, with_rows
    from loraline.recipe_file import override

    values = with_rows(starting_values(model), **(sources or {}))
    if revision:
        values["model"] = {**values["model"], "revision": revision}
    return build(override(values, overrides or [], environment={}), {})


def _held_out(recipe: "Recipe", data: str, folder: Path) -> Path:
    """A folder of prepared rows as it is; rows become an evaluation set in a folder of their own."""
    from loraline.artifacts.dataset_files import EVAL_ROWS
    from loraline.finetune.folders import check_prepared
    from loraline.finetune.inputs import prepare_into

    if (Path(data) / EVAL_ROWS).is_file() or (Path(data).is_dir() and not any(Path(data).iterdir())):
        return check_prepared(Path(data))
    rows = {**recipe.data.model_dump(), "source": data, "eval_source": "", "general_source": "", "revision": ""}
    section = type(recipe.data).model_validate(rows)
    prepare_into(recipe.model_copy(update={"data": section}), folder, evaluation_only=True)
    return folder
