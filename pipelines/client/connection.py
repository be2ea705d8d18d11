"""Connect to a Kubeflow Pipelines server through the official client, with clear error messages."""

import json
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import certifi
import urllib3

from loraline.errors import ClusterAwayError, ClusterError, ConfigurationError
from pipelines.client.cluster_settings import REACHING_KFP, ClusterSettings

MINIMUM_VERSION = (2, 14)
"""The oldest KFP version that, by its change log, has all features that the commands and compiled pipelines use.

2.5: schedules that follow the latest version, names of secrets as parameters. 2.14: node affinity as a parameter, more
than one label on a pod, retries inside conditions. An older server would ignore these silently.
"""

_TIMEOUT = urllib3.Timeout(connect=10, read=60)
_LOGIN = (
    "Log in in one of these ways: KFP_TOKEN_FILE=<file with a bearer token>, or KFP_COOKIE='name=value' with the"
    " session cookie of a browser that is logged in. Sessions expire after some hours: a fresh cookie may be enough."
)


@dataclass(frozen=True)
class Cluster:
    """A Kubeflow Pipelines server that answers and has authenticated this user."""

    client: Any
    """The official `kfp.Client`, which raises ClusterErrors."""
    settings: ClusterSettings
    multi_user: bool
    version: str
    """As the server reports it, such as "2.17.0"; "unknown" if it does not."""

    @property
    def namespace(self) -> str | None:
        """The namespace to send with requests; None for a single-user installation, which refuses one."""
        return self.settings.namespace if self.multi_user else None

    def link(self, page: str) -> str:
        """URL of a page, such as `runs/details/<id>`."""
        return f"{self.settings.ui}/#/{page}"


def connect(settings: ClusterSettings) -> Cluster:
    """Check that the server answers and is supported, and return a connection to it.

    Raises:
        ClusterError: the server does not answer, requires a login, is too old, or is not Kubeflow Pipelines.
        ConfigurationError: the installation is multi-user and no namespace is set.
    """
    health = _health(settings)
    multi_user = bool(health.get("multi_user"))
    if multi_user and not settings.namespace:
        raise ConfigurationError(
            f"{settings.endpoint} serves several users: set your namespace (profile) with --namespace or KFP_NAMESPACE"
        )
    return Cluster(_official_client(settings, multi_user), settings, multi_user, health["tag_name"])


def equals(field: str, value: str) -> str:
    """A filter for KFP's list calls: a field equals a value."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": field, "string_value": value}]})


def listed(call: Callable[..., Any], items: str, **arguments: Any) -> Iterator[Any]:
    """All items of one of KFP's list calls, over all pages."""
    page_token = ""
    while True:
        page = call(page_token=page_token, page_size=100, **arguments)
        yield from getattr(page, items) or []
        page_token = page.next_page_token or ""
        if not page_token:
            return


def _official_client(settings: ClusterSettings, multi_user: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that it needs KFP 2, which has been checked
        import kfp
        from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

        token_file = settings.token_file
        client = kfp.Client(
            host=settings.endpoint,
            namespace=settings.namespace if multi_user else "kubeflow",  # kfp takes "kubeflow" as no namespace
            credentials=ServiceAccountTokenVolumeCredentials(str(token_file)) if token_file else None,
            cookies=settings.cookie,
            ssl_ca_cert=str(settings.ca_file) if settings.ca_file else None,
            ui_host=settings.ui,
        )
    # Every service of the client sends through one connection pool, so errors are checked there. The generated code
    # would follow a redirect to a login page, and parse the page as a response whose fields are all empty.
    pool = client._run_api.api_client.rest_client.pool_manager
    pool.request = _checked(pool.request, settings.endpoint)
    return client


def _health(settings: ClusterSettings) -> dict[str, Any]:
    """The server's answer to a health check (multi_user, tag_name, ...).

    Raises:
        ClusterError: as `connect`.
    """
    headers = {"Cookie": settings.cookie} if settings.cookie else {}
    if settings.token_file:
        headers["authorization"] = f"Bearer {settings.token_file.read_text().strip()}"
    pool = urllib3.PoolManager(retries=1, ca_certs=str(settings.ca_file) if settings.ca_file else certifi.where())
    request = _checked(pool.request, settings.endpoint, allow_not_found=True)
    answer = request("GET", f"{settings.endpoint}/apis/v2beta1/healthz", headers=headers)
    if answer.status == 404:
        answer = request("GET", f"{settings.endpoint}/apis/v1beta1/healthz", headers=headers)
        if answer.status == 404:
            raise ClusterError(f"{settings.endpoint} answers, but is not Kubeflow Pipelines. {REACHING_KFP}")
        raise _too_old(settings.endpoint, answer.json().get("tag_name") or "1.x")
    health: dict[str, Any] = answer.json()
    # The UI server answers for the API server, and reports the version in another field.
    if health.get("apiServerReady") is False:
        raise ClusterAwayError(f"{settings.endpoint} serves KFP's UI, but the API server behind it does not answer")
    health["tag_name"] = health.get("tag_name") or health.get("apiServerTagName") or "unknown"
    number = re.match(r"v?(\d+)\.(\d+)", health["tag_name"])
    if number and (int(number[1]), int(number[2])) < MINIMUM_VERSION:
        raise _too_old(settings.endpoint, health["tag_name"])
    return health


def _too_old(endpoint: str, version: str) -> ClusterError:
    needed = ".".join(str(part) for part in MINIMUM_VERSION)
    return ClusterError(
        f"{endpoint} runs Kubeflow Pipelines {version}, which is too old: Loraline needs {needed} or newer. "
        "Ask whoever runs it to upgrade."
    )


def _checked(send: Callable[..., Any], endpoint: str, allow_not_found: bool = False) -> Callable[..., Any]:
    """Wrap urllib3's `request` with a timeout, and raise a ClusterError for every error response."""

    def request(method: str, url: str, **options: Any) -> Any:
        options["timeout"] = options.get("timeout") or _TIMEOUT
        try:
            response = send(method, url, redirect=False, **options)
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(endpoint, getattr(error, "reason", None) or error) from error
        if not (allow_not_found and response.status == 404):
            _check(response, f"{method} {url.partition('?')[0]}", endpoint)
        return response

    return request


def _unreachable(endpoint: str, reason: object) -> ClusterError:
    message = str(reason).rpartition(": ")[2]  # without the names of urllib3's classes
    if isinstance(reason, urllib3.exceptions.SSLError):
        return ClusterError(
            f"{endpoint} cannot be trusted: {message}. If a certificate authority of your own signed its certificate, "
            "set KFP_CA_FILE to that authority's PEM file"
        )
    return ClusterAwayError(f"no answer from {endpoint}: {message}. Is it up? {REACHING_KFP}")


def _check(response: Any, request: str, endpoint: str) -> None:
    """Raise a ClusterError for an HTTP response that is not a successful answer of KFP."""
    status = response.status
    is_json = "json" in response.headers.get("content-type", "")
    if 200 <= status < 300 and is_json:
        return
    reason = _reason(response.data) if is_json else ""
    if status == 401 or 200 <= status < 400 or (status == 403 and not is_json):
        raise ClusterError(f"{endpoint} requires a login (HTTP {status}){reason and f': {reason}'}. {_LOGIN}")
    if status == 403:
        raise ClusterError(f"{endpoint} does not allow you {request}: {reason}. Is it your namespace?")
    if status == 429 or status >= 500:
        raise ClusterAwayError(f"{endpoint} failed (HTTP {status} on {request}): {reason or 'no reason given'}")
    raise ClusterError(f"{endpoint} refuses {request} (HTTP {status}): {reason or 'no reason given'}")


def _reason(body: bytes) -> str:
    """The message in an error response; KFP's upload calls name the field differently."""
    try:
        fields = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(fields, dict):
        return ""
    return str(fields.get("message") or fields.get("error_message") or fields.get("error") or "")
