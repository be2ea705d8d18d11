"""Connecting to a server: all ways to log in, and the errors."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from loraline.errors import ClusterAwayError, ClusterError, ConfigurationError
from pipelines.client.cluster_settings import cluster_settings
from pipelines.client.connection import Cluster, connect, listed
from tests.pipelines.client.server import LOGIN_PAGE, Answer, KfpServer


def test_no_login_is_needed_if_the_server_requires_none(cluster: Cluster) -> None:
    assert cluster.version == "2.17.0"
    assert cluster.namespace is None


def test_a_token_file_is_read_again_when_it_changes(server: KfpServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    server.token = "first"
    cluster = connect(cluster_settings(server.url, token_file=token))
    server.token = "second"
    token.write_text("second\n")
    assert list(listed(cluster.client.list_pipelines, "pipelines")) == []


def test_a_dex_cookie_logs_in(server: KfpServer) -> None:
    server.cookie = "oauth2_proxy_kubeflow=abc"
    settings = cluster_settings(environment={"KFP_ENDPOINT": server.url, "KFP_COOKIE": server.cookie})
    assert connect(settings).client.list_pipelines().total_size == 0
    assert "abc" not in repr(settings)


def test_a_pod_uses_its_service_account_and_namespace(server: KfpServer, tmp_path: Path) -> None:
    for name, text in {"kubernetes.io/serviceaccount/namespace": "team", "kubeflow/pipelines/token": "pod"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    settings = cluster_settings(environment={}, pod_secrets=tmp_path)
    assert settings.endpoint == "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
    server.token, server.multi_user = "pod", True
    cluster = connect(cluster_settings(server.url, environment={}, pod_secrets=tmp_path))
    assert cluster.namespace == "team"
    assert list(listed(cluster.client.list_pipelines, "pipelines", namespace=cluster.namespace)) == []


def test_kfps_own_token_variable_is_honoured(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    env = {"KFP_ENDPOINT": "http://kfp", "KF_PIPELINES_SA_TOKEN_PATH": str(tmp_path / "token")}
    assert cluster_settings(environment=env, pod_secrets=tmp_path / "none").token_file == tmp_path / "token"


def test_all_problems_of_the_settings_are_reported_at_once(tmp_path: Path) -> None:
    env = {"KFP_ENDPOINT": "kfp.example", "KFP_COOKIE": "abc", "KFP_TOKEN_FILE": "/no/such", "KFP_CA_FILE": "/none"}
    with pytest.raises(ConfigurationError) as error:
        cluster_settings(environment=env, pod_secrets=tmp_path)
    for words in ("https://kfp.example", "'/no/such'", "'/none'", "name=value", "unset one"):
        assert words in str(error.value)


def test_a_missing_address_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="KFP_ENDPOINT") as error:
        cluster_settings(environment={}, pod_secrets=tmp_path)
    assert "port-forward" in str(error.value)


def test_a_server_that_does_not_answer() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ClusterAwayError, match=rf"no answer from http://127.0.0.1:{port}: .*refused"):
        connect(cluster_settings(f"http://127.0.0.1:{port}"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, to make a certificate")
def test_a_certificate_authority_of_ones_own(tmp_path: Path) -> None:
    pem = tmp_path / "both.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=kfp -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        ["openssl", *words.split(), "-keyout", pem, "-out", tmp_path / "ca.pem"], check=True, stderr=subprocess.DEVNULL
    )
    pem.write_text(pem.read_text() + (tmp_path / "ca.pem").read_text())
    with KfpServer().running(certificate=pem) as server:
        with pytest.raises(ClusterError, match=r"cannot be trusted: .*KFP_CA_FILE"):
            connect(cluster_settings(server.url))
        env = {"KFP_ENDPOINT": server.url, "KFP_CA_FILE": str(tmp_path / "ca.pem")}
        assert connect(cluster_settings(environment=env)).client.list_pipelines().total_size == 0


@pytest.mark.parametrize(
    "page",
    [
        Answer(302, html="", location="/dex/auth"),
        Answer(200, html=LOGIN_PAGE),
        Answer(403, html=LOGIN_PAGE),
        Answer(401, {"code": 16, "message": "no valid user identity"}),
    ],
    ids=["redirect", "login page", "forbidden page", "unauthorized"],
)
def test_a_missing_login_is_reported(server: KfpServer, page: Answer) -> None:
    server.refuse("GET /apis/v2beta1/healthz", page)
    with pytest.raises(ClusterError, match=r"requires a login.*KFP_TOKEN_FILE.*KFP_COOKIE"):
        connect(cluster_settings(server.url))


def test_a_session_that_expires_is_not_an_empty_answer(cluster: Cluster, server: KfpServer) -> None:
    server.refuse("GET /apis/v2beta1/runs", Answer(200, html=LOGIN_PAGE))
    with pytest.raises(ClusterError, match="requires a login"):
        cluster.client.get_run("some-run")


@pytest.mark.parametrize(("version", "reported"), [(None, "1.8.5"), ("2.0.5", "2.0.5"), ("v2.5.0", "v2.5.0")])
def test_a_server_that_is_too_old_is_refused(server: KfpServer, version: str | None, reported: str) -> None:
    server.version = version
    with pytest.raises(ClusterError, match=rf"Pipelines {reported}, which is too old: Loraline needs 2.14 or newer"):
        connect(cluster_settings(server.url))


def test_an_unknown_version_is_accepted(server: KfpServer) -> None:
    server.version = "unknown"
    assert connect(cluster_settings(server.url)).version == "unknown"


def test_the_ui_server_answers_for_the_api_server(server: KfpServer) -> None:
    old = {"apiServerReady": True, "apiServerTagName": "2.3.0", "multi_user": False}
    server.refuse("GET /apis/v2beta1/healthz", Answer(200, old))
    with pytest.raises(ClusterError, match=r"2\.3\.0, which is too old"):
        connect(cluster_settings(server.url))
    server.refuse("GET /apis/v2beta1/healthz", Answer(200, {"apiServerReady": False}))
    with pytest.raises(ClusterAwayError, match="the API server behind it does not answer"):
        connect(cluster_settings(server.url))


def test_a_server_that_is_not_kfp_is_refused(server: KfpServer) -> None:
    server.refuse("GET /apis/", Answer(404, html="<h1>nginx</h1>"), times=2)
    with pytest.raises(ClusterError, match=r"is not Kubeflow Pipelines.*ends in /pipeline"):
        connect(cluster_settings(server.url))


def test_a_multi_user_server_needs_a_namespace(server: KfpServer) -> None:
    server.multi_user = True
    with pytest.raises(ConfigurationError, match="KFP_NAMESPACE"):
        connect(cluster_settings(server.url))


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Answer(403, {"code": 7, "message": "not authorized in team-b"}), ClusterError, "not allow.*team-b"),
        (Answer(404, {"code": 5, "message": "Run x not found"}), ClusterError, "HTTP 404.*Run x not found"),
        (Answer(503, html="upstream connect error"), ClusterAwayError, "failed .HTTP 503"),
        (Answer(500, {"error_message": "disk full", "error_details": "..."}), ClusterAwayError, "disk full"),
    ],
)
def test_the_servers_message_is_in_the_error(
    cluster: Cluster, server: KfpServer, answer: Answer, kind: type[Exception], words: str
) -> None:
    server.refuse("GET /apis/v2beta1/runs", answer)
    with pytest.raises(ClusterError, match=words) as error:
        cluster.client.get_run("x")
    assert type(error.value) is kind
