"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.client.cluster_settings import cluster_settings
from pipelines.client.connection import Cluster, connect

Endpoint = Annotated[
    str | None,
    typer.Option(
        help="Address of Kubeflow Pipelines (KFP_ENDPOINT).", rich_help_panel="Connection", show_default=False
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        help="Your namespace (profile), on a multi-user installation (KFP_NAMESPACE).",
        rich_help_panel="Connection",
        show_default=False,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="File with a bearer token (KFP_TOKEN_FILE). For a session cookie set KFP_COOKIE.",
        rich_help_panel="Connection",
        show_default=False,
    ),
]
RecipeArgument = Annotated[str, typer.Argument(help="A shipped recipe's name, or a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings that override the recipe's: section.field=value, such as training.rank=8."),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", help="A pipeline parameter outside the recipe, as name=value: where steps run."),
]
Pipeline = Annotated[str, typer.Option(help="The pipeline's name on the server.")]
Experiment = Annotated[str, typer.Option(help="KFP experiment of the runs; created if it does not exist.")]
ServiceAccount = Annotated[
    str | None,
    typer.Option(help="Kubernetes service account of the steps. Default: the installation's."),
]
RunArgument = Annotated[str, typer.Argument(help="A run's id, a prefix of it, or 'latest'.")]


def connected(endpoint: str | None, namespace: str | None, token_file: Path | None) -> Cluster:
    """Connect to the cluster that the options and the environment name."""
    return connect(cluster_settings(endpoint, namespace, token_file))
