"""Settings of the connection: the Kubeflow Pipelines server's address, and this user's credentials."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loraline.errors import ConfigurationError

_POD_SECRETS = Path("/var/run/secrets")
_IN_CLUSTER_ENDPOINT = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"

REACHING_KFP = (
    "From outside the cluster: `kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80`, then"
    " `export KFP_ENDPOINT=http://localhost:8080`. Behind Kubeflow's dashboard the address ends in /pipeline."
)


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Address and credentials of a Kubeflow Pipelines server. At most one of token file and cookie is set."""

    endpoint: str
    """URL of the API, with its scheme and without a trailing slash."""
    ui: str
    """URL of the UI, which differs from the API's in some installations."""
    namespace: str = ""
    """The user's namespace (profile), which holds the runs; empty for a single-user installation."""
    token_file: Path | None = None
    """File with a bearer token; read again for each request, because a projected token is renewed in place."""
    cookie: str | None = field(default=None, repr=False)
    """The session cookie from Dex or oauth2-proxy, as `name=value`."""
    ca_file: Path | None = None
    """PEM file of the certificate authorities to trust; None: the public ones."""


def cluster_settings(
    endpoint: str | None = None,
    namespace: str | None = None,
    token_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    pod_secrets: Path = _POD_SECRETS,
) -> ClusterSettings:
    """Gather the settings: options take precedence over the environment, which does over a pod's defaults.

    Environment: KFP_ENDPOINT (or KF_PIPELINES_ENDPOINT), KFP_NAMESPACE, KFP_TOKEN_FILE, KFP_COOKIE, KFP_CA_FILE;
    KF_PIPELINES_UI_ENDPOINT and KF_PIPELINES_SA_TOKEN_PATH as kfp itself reads them.

    Raises:
        ConfigurationError: lists all problems at once.
    """
    env = os.environ if environment is None else environment
    pod_namespace = pod_secrets / "kubernetes.io/serviceaccount/namespace"
    in_pod = pod_namespace.is_file()
    address = endpoint or env.get("KFP_ENDPOINT") or env.get("KF_PIPELINES_ENDPOINT")
    address = (address or (_IN_CLUSTER_ENDPOINT if in_pod else "")).rstrip("/")
    cookie = env.get("KFP_COOKIE") or None
    chosen = token_file or _path(env, "KFP_TOKEN_FILE")
    ca_file = _path(env, "KFP_CA_FILE")
    problems = _problems(address, chosen, cookie, ca_file)
    if problems:
        raise ConfigurationError("cannot reach Kubeflow Pipelines:\n" + "\n".join(f"  {one}" for one in problems))
    return ClusterSettings(
        endpoint=address,
        ui=(env.get("KF_PIPELINES_UI_ENDPOINT") or address).rstrip("/"),
        namespace=namespace or env.get("KFP_NAMESPACE") or (pod_namespace.read_text().strip() if in_pod else ""),
        token_file=chosen or (None if cookie else _service_account_token(env, pod_secrets)),
        cookie=cookie,
        ca_file=ca_file,
    )


def _path(env: Mapping[str, str], name: str) -> Path | None:
    return Path(env[name]).expanduser() if env.get(name) else None


def _service_account_token(env: Mapping[str, str], pod_secrets: Path) -> Path | None:
    """The token that Kubernetes projects into a pod for KFP's audience, if there is one."""
    places = [_path(env, "KF_PIPELINES_SA_TOKEN_PATH"), pod_secrets / "kubeflow/pipelines/token"]
    return next((place for place in places if place and place.is_file()), None)


def _problems(address: str, token_file: Path | None, cookie: str | None, ca_file: Path | None) -> list[str]:
    problems = []
    if not address:
        problems.append(f"its address is not set: give --endpoint or set KFP_ENDPOINT. {REACHING_KFP}")
    elif not address.startswith(("http://", "https://")):
        problems.append(f"endpoint {address!r}: write it with its scheme, such as https://{address}")
    if token_file and not token_file.is_file():
        problems.append(f"token file {str(token_file)!r}: no such file (--token-file or KFP_TOKEN_FILE)")
    if ca_file and not ca_file.is_file():
        problems.append(f"KFP_CA_FILE={str(ca_file)!r}: no such file")
    if cookie and "=" not in cookie:
        problems.append("KFP_COOKIE: write it as name=value, such as oauth2_proxy_kubeflow=..., from your browser")
    if token_file and cookie:
        problems.append("both a token file and KFP_COOKIE are set: unset one of them")
    return problems
