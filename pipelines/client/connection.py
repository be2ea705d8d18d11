"""The connection to a Kubeflow Pipelines server: the official client, with clear words for what goes wrong."""

import json
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import certifi
import urllib3

from loraline.errors import ClusterAwayError, ClusterError, ConfigurationError
from pipelines.client.settings import REACHING_KFP, ClusterSettings

OLDEST = (2, 14)
"""The first version that by KFP's change log has all that the commands and the compiled pipelines ask for.

2.5: schedules that follow the latest version, names of secrets as parameters. 2.14: node affinity as a parameter, more
than one label on a pod, retries inside conditions. An older server would leave these out of a run without a word.
"""

_TIMEOUT = urllib3.Timeout(connect=10, read=60)
_LOGIN = (
    "Log in in one of these ways: KFP_TOKEN_FILE=<file with a bearer token>, or KFP_COOKIE='name=value' with the"
    " session cookie of a browser that is logged in. Sessions end after some hours: a fresh cookie may be all it needs."
)


@dataclass(frozen=True)
class Cluster:
    """A Kubeflow Pipelines server that answers and that knows this user."""

    client: Any
    """The official `kfp.Client`; its failures are ClusterErrors."""
    settings: ClusterSettings
    multi_user: bool
    version: str
    """As the server says it, such as "2.17.0"; "unknown" where it does not."""

    @property
    def namespace(self) -> str | None:
        """The namespace to name in requests: an installation for one user refuses to be asked for one."""
        return self.settings.namespace if self.multi_user else None

    def link(self, page: str) -> str:
        """Address of a page, such as `runs/details/<id>`."""
        return f"{self.settings.ui}/#/{page}"


def connect(settings: ClusterSettings) -> Cluster:
    """Reach the server, make sure that it is one we can talk to, and return the official client for it.

    Raises:
        ClusterError: away, wants a login, too old, or no Kubeflow Pipelines at all.
        ConfigurationError: the installation serves several users and no namespace is set.
    """
    health = _shake_hands(settings)
    multi_user = bool(health.get("multi_user"))
    if multi_user and not settings.namespace:
        raise ConfigurationError(
            f"{settings.endpoint} serves several users: name your namespace (profile) with --namespace or KFP_NAMESPACE"
        )
    return Cluster(_official_client(settings, multi_user), settings, multi_user, health["tag_name"])


def equals(field: str, value: str) -> str:
    """A filter for KFP's list calls: the field has this value."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": field, "string_value": value}]})


def listed(call: Callable[..., Any], items: str, **arguments: Any) -> Iterator[Any]:
    """All items of one of KFP's list calls, page after page."""
    page_token = ""
    while True:
        page = call(page_token=page_token, page_size=100, **arguments)
        yield from getattr(page, items) or []
        page_token = page.next_page_token or ""
        if not page_token:
            return


def _official_client(settings: ClusterSettings, multi_user: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that it needs KFP 2, which is known by now
        import kfp
        from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

        token_file = settings.token_file
        client = kfp.Client(
            host=settings.endpoint,
            namespace=settings.namespace if multi_user else "kubeflow",  # "kubeflow" is kfp's word for none
            credentials=ServiceAccountTokenVolumeCredentials(str(token_file)) if token_file else None,
            cookies=settings.cookie,
            ssl_ca_cert=str(settings.ca_file) if settings.ca_file else None,
            ui_host=settings.ui,
        )
    # Every service of the client sends through one pool. Guarded there, no failure can go by untold: the generated
    # code would follow a redirect to a login page and read the page as an answer whose fields are all empty.
    pool = client._run_api.api_client.rest_client.pool_manager
    pool.request = _guarded(pool.request, settings.endpoint)
    return client


def _shake_hands(settings: ClusterSettings) -> dict[str, Any]:
    """What the server says of itself (multi_user, tag_name, ...).

    Raises:
        ClusterError: as `connect` says.
    """
    headers = {"Cookie": settings.cookie} if settings.cookie else {}
    if settings.token_file:
        headers["authorization"] = f"Bearer {settings.token_file.read_text().strip()}"
    pool = urllib3.PoolManager(retries=1, ca_certs=str(settings.ca_file) if settings.ca_file else certifi.where())
    request = _guarded(pool.request, settings.endpoint, missing_is_an_answer=True)
    answer = request("GET", f"{settings.endpoint}/apis/v2beta1/healthz", headers=headers)
    if answer.status == 404:
        answer = request("GET", f"{settings.endpoint}/apis/v1beta1/healthz", headers=headers)
        if answer.status == 404:
            raise ClusterError(f"{settings.endpoint} answers, but is no Kubeflow Pipelines. {REACHING_KFP}")
        raise _too_old(settings.endpoint, answer.json().get("tag_name") or "1.x")
    health: dict[str, Any] = answer.json()
    # The server of the pages answers for the API server, and names its version otherwise.
    if health.get("apiServerReady") is False:
        raise ClusterAwayError(f"{settings.endpoint} shows KFP's pages, but the API server behind them is away")
    health["tag_name"] = health.get("tag_name") or health.get("apiServerTagName") or "unknown"
    number = re.match(r"v?(\d+)\.(\d+)", health["tag_name"])
    if number and (int(number[1]), int(number[2])) < OLDEST:
        raise _too_old(settings.endpoint, health["tag_name"])
    return health


def _too_old(endpoint: str, version: str) -> ClusterError:
    needed = ".".join(str(part) for part in OLDEST)
    return ClusterError(
        f"{endpoint} runs Kubeflow Pipelines {version}, which is too old: Loraline needs {needed} or newer. "
        "Ask whoever runs it to upgrade."
    )


def _guarded(send: Callable[..., Any], endpoint: str, missing_is_an_answer: bool = False) -> Callable[..., Any]:
    """`send` (urllib3's request) with a time limit, and with ClusterErrors for whatever is not an answer."""

    def request(method: str, url: str, **options: Any) -> Any:
        options["timeout"] = options.get("timeout") or _TIMEOUT
        try:
            response = send(method, url, redirect=False, **options)
        except urllib3.exceptions.HTTPError as error:
            raise _away(endpoint, getattr(error, "reason", None) or error) from error
        if not (missing_is_an_answer and response.status == 404):
            _check(response, f"{method} {url.partition('?')[0]}", endpoint)
        return response

    return request


def _away(endpoint: str, reason: object) -> ClusterError:
    words = str(reason).rpartition(": ")[2]  # without the names of urllib3's classes
    if isinstance(reason, urllib3.exceptions.SSLError):
        return ClusterError(
            f"{endpoint} cannot be trusted: {words}. If its certificate was signed by an authority of your own, "
            "name that authority's PEM file in KFP_CA_FILE"
        )
    return ClusterAwayError(f"no answer from {endpoint}: {words}. Is it up? {REACHING_KFP}")


def _check(response: Any, what: str, endpoint: str) -> None:
    """Raise what an HTTP response that is no answer of KFP's means."""
    status = response.status
    is_json = "json" in response.headers.get("content-type", "")
    if 200 <= status < 300 and is_json:
        return
    said = _server_words(response.data) if is_json else ""
    if status == 401 or 200 <= status < 400 or (status == 403 and not is_json):
        raise ClusterError(f"{endpoint} wants a login (HTTP {status}){said and f': {said}'}. {_LOGIN}")
    if status == 403:
        raise ClusterError(f"{endpoint} knows you but does not allow {what}: {said}. Is it your namespace?")
    if status == 429 or status >= 500:
        raise ClusterAwayError(f"{endpoint} is in trouble (HTTP {status} on {what}): {said or 'no reason given'}")
    raise ClusterError(f"{endpoint} refuses {what} (HTTP {status}): {said or 'no reason given'}")


def _server_words(body: bytes) -> str:
    """What an error's body says; KFP's upload calls spell it differently from the rest."""
    try:
        fields = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(fields, dict):
        return ""
    return str(fields.get("message") or fields.get("error_message") or fields.get("error") or "")
