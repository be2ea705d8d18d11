"""What the cluster's commands share: their options."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.client.connection import Cluster, connect
from pipelines.client.settings import cluster_settings

Endpoint = Annotated[
    str | None,
    typer.Option(
        help="Address of Kubeflow Pipelines (KFP_ENDPOINT).", rich_help_panel="Connection", show_default=False
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        help="Your namespace (profile), on an installation for several users (KFP_NAMESPACE).",
        rich_help_panel="Connection",
        show_default=False,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="File with a bearer token (KFP_TOKEN_FILE). A session cookie goes into KFP_COOKIE.",
        rich_help_panel="Connection",
        show_default=False,
    ),
]
RecipeArgument = Annotated[str, typer.Argument(help="A shipped recipe's name, or a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings over the recipe's: section.field=value, such as training.rank=8."),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter", "-p", help="A pipeline parameter that is no recipe's setting, as name=value: where steps run."
    ),
]
Pipeline = Annotated[str, typer.Option(help="The pipeline's name on the server.")]
Experiment = Annotated[str, typer.Option(help="KFP's folder for runs; made where it is not there yet.")]
ServiceAccount = Annotated[
    str | None,
    typer.Option(help="Kubernetes service account of the steps, where it is not the installation's default."),
]
RunArgument = Annotated[str, typer.Argument(help="A run's id, its first letters, or 'latest'.")]


def connected(endpoint: str | None, namespace: str | None, token_file: Path | None) -> Cluster:
    """The cluster that the options and the environment name."""
    return connect(cluster_settings(endpoint, namespace, token_file))
