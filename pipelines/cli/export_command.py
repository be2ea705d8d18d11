"""`loraline export`: a model in the form that others read."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from pipelines.cli.exits import errors_told
from pipelines.local.services import HOME, services

app = typer.Typer()


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(help="runs/latest, a folder, s3://bucket/prefix, models:/name@alias or models:/name/7.")
    ],
    output: Annotated[Path, typer.Argument(help="The folder to make; for gguf the file.")],
    kind: Annotated[
        Literal["safetensors", "adapter", "gguf"],
        typer.Option("--format", "-f", help="The merged model; the adapter alone, in PEFT's layout; or one GGUF file."),
    ] = "safetensors",
    outtype: Annotated[
        Literal["auto", "f32", "f16", "bf16", "q8_0"], typer.Option(help="Type of the weights in a GGUF file.")
    ] = "auto",
) -> None:
    """Write a model for what is to run it: transformers, vLLM and PEFT (safetensors), llama.cpp and Ollama (gguf).

    A registered model's files are compared with the digests that it was registered with. GGUF files are made by
    llama.cpp's converter, found through LLAMA_CPP_DIR or on the PATH.
    """
    from loraline.export.export import export as write
    from loraline.sources.registry_address import RegistryAddress
    from loraline.units import format_bytes

    with errors_told():
        if model.startswith("s3://") or RegistryAddress.matches(model):
            with services(HOME):
                done = write(model, output, kind, outtype)
        else:
            done = write(model, output, kind, outtype)
    console = Console()
    console.print(f"[bold]{done.path}[/bold]  {format_bytes(done.size)}", highlight=False)
    checked = f"verified by {done.verified}" if done.verified else "nothing to verify its bytes by"
    for line in [checked, *done.notes]:
        console.print(f"- {line}", highlight=False, markup=False, soft_wrap=True)
