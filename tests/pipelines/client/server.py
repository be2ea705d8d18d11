"""A double of the KFP API server: over HTTP, with state, speaking KFP's own models, held to the contract."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.pipelines.client.contract import FILE, Contract
from tests.pipelines.client.models import write
from tests.pipelines.client.state import Refused, State

LOGIN_PAGE = "<!doctype html><html><body><h1>Log in to Your Account</h1></body></html>"


@dataclass
class Request:
    """A request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None
    upload: str | None = None
    """The uploaded file's text."""


@dataclass
class Answer:
    """What goes back."""

    status: int = 200
    body: Any = None
    html: str | None = None
    location: str | None = None


@cache
def _contract() -> Contract | None:
    return Contract() if FILE.is_file() else None


@dataclass
class KfpServer:
    """The double. Tests set what it is like, and read what it was asked."""

    version: str | None = "2.17.0"
    """None: a server of the first generation, which has no v2beta1 API."""
    multi_user: bool = False
    token: str | None = None
    """Where set, only this bearer token is let in."""
    cookie: str | None = None
    """Where set, only this cookie is let in; others are shown the way to Dex."""
    url: str = ""
    state: State = field(default_factory=State)
    requests: list[Request] = field(default_factory=list)
    refusals: list[tuple[str, Answer]] = field(default_factory=list)
    """Answers to give once, instead of the right one, to the next request whose method and path start so."""
    violations: list[str] = field(default_factory=list)
    """What was asked or answered against the contract; a test that leaves one here fails."""
    contract: Contract | None = field(default_factory=_contract)

    def refuse(self, start: str, answer: Answer, times: int = 1) -> None:
        """Answer the next requests that start so, such as "POST /apis/v2beta1/runs", like this."""
        self.refusals += [(start, answer)] * times

    def asked(self, start: str) -> list[Request]:
        """The requests whose method and path start so."""
        return [one for one in self.requests if f"{one.method} {one.path}".startswith(start)]

    @contextmanager
    def running(self, certificate: Path | None = None) -> Iterator["KfpServer"]:
        """Serve on a free port; with a certificate (PEM, with its key), over TLS."""
        double = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                _send(self, double.answer(_received(self)))

            do_GET = do_POST = do_DELETE = do_PATCH = _serve  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Say nothing: requests are kept for the test."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def answer(self, request: Request) -> Answer:
        """Log in, be refused, or be served; whatever breaks the contract is kept in `violations`."""
        self.requests.append(request)
        turned_away = self._turned_away(request)
        if turned_away:
            return turned_away
        if request.path.endswith("/healthz"):
            return self._healthz(request)
        try:
            return self._served(request)
        except AssertionError as error:
            self.violations.append(str(error))
            return Answer(400, {"code": 3, "message": str(error)})

    def _turned_away(self, request: Request) -> Answer | None:
        for planned in self.refusals:
            if f"{request.method} {request.path}".startswith(planned[0]):
                self.refusals.remove(planned)
                return planned[1]
        if self.cookie and request.headers.get("cookie") != self.cookie:
            return Answer(302, html="", location="/dex/auth?client_id=oauth2-proxy")
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return Answer(401, {"code": 16, "message": "Request header error: there is no valid user identity"})
        return None

    def _healthz(self, request: Request) -> Answer:
        if self.version is None and "v2beta1" in request.path:
            return Answer(404, {"code": 5, "message": "Not Found"})
        health = {"multi_user": self.multi_user, "commit_sha": "c0ffee"}
        if "v2beta1" in request.path:
            health["pipeline_store"] = "database"
        return Answer(body=health | {"tag_name": self.version or "1.8.5"})

    def _served(self, request: Request) -> Answer:
        operation = self.contract.operation(request.method, request.path) if self.contract else None
        if self.contract and operation:
            files = {"uploadfile"} if request.upload is not None else set()
            self.contract.check_request(operation, request.query, request.body, files)
        try:
            body = self.state.serve(
                request.method, request.path, request.query, request.body, request.upload, self.multi_user
            )
            answer = Answer(200, {} if body is None else write(body))
        except Refused as refusal:
            answer = Answer(refusal.status, {"code": refusal.code, "message": refusal.message})
        if self.contract and operation:
            self.contract.check_answer(operation, answer.status, answer.body)
        return answer


def _received(handler: BaseHTTPRequestHandler) -> Request:
    parts = urlsplit(handler.path)
    headers = {name.lower(): text for name, text in handler.headers.items()}
    request = Request(handler.command, parts.path, dict(parse_qsl(parts.query)), headers)
    raw = handler.rfile.read(int(headers.get("content-length", 0)))
    kind = headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + raw)
        part = next(iter(message.iter_parts()))
        assert part.get_param("name", header="content-disposition") == "uploadfile"
        request.upload = part.get_payload(decode=True).decode()
    elif raw:
        request.body = json.loads(raw)
    return request


def _send(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    is_page = answer.html is not None
    data = (answer.html or "").encode() if is_page else json.dumps(answer.body).encode()
    handler.send_response(answer.status)
    handler.send_header("content-type", "text/html" if is_page else "application/json")
    handler.send_header("content-length", str(len(data)))
    if answer.location:
        handler.send_header("location", answer.location)
    handler.end_headers()
    handler.wfile.write(data)
