"""A test double of the Kubernetes API and Kubeflow Trainer over HTTP, with the requests that train_lora makes.

It accepts a TrainJob only if the official models validate it, starts each node's command as a process with the
environment that Trainer's torch plugin sets, and keeps its output as the pod's log. Restarts, which JobSet does, are
not simulated.
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

NAMESPACE = "team"
_JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_INHERITED = ("PATH", "HOME", "LANG", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "LORALINE_CACHE")
Answer = tuple[int, Any]


def validation_error(manifest: dict[str, Any]) -> str:
    """Validate a TrainJob with the official models: a wrong type, or an unknown field; empty if it is valid."""
    try:
        model = TrainerV1alpha1TrainJob.from_dict(manifest)
    except ValueError as error:
        return str(error)
    assert model is not None
    known = json.loads(model.to_json())
    return "" if known == manifest else f"not of a TrainJob: {_difference(manifest, known)}"


def _difference(given: Any, known: Any, path: str = "") -> str:
    if isinstance(given, dict) and isinstance(known, dict):
        return ", ".join(_difference(v, known.get(k), f"{path}.{k}") for k, v in given.items() if v != known.get(k))
    if isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        return ", ".join(_difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(given, known, strict=True)))
    return path


@dataclass
class Cluster:
    """The state of a cluster."""

    folder: Path
    pod: dict[str, Any]
    """The step's own pod."""
    secrets: dict[str, dict[str, str]]
    command: list[str] = field(default_factory=list)
    """A command that nodes run instead of training; their arguments are appended."""
    refusals: dict[str, list[int]] = field(default_factory=dict)
    """HTTP statuses for the next requests of a method; 0: the request is answered."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    nodes: dict[str, list[subprocess.Popen[bytes]]] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    """Every TrainJob that was created."""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Answer:
        """Answer one request."""
        if self.refusals.get(method) and (status := self.refusals[method].pop(0)):
            return status, {"message": "refused by the test"}
        return self._of_jobs(method, path, body) if path.startswith(_JOBS) else self._of_pods(path, query)

    def _of_jobs(self, method: str, path: str, body: Any) -> Answer:
        if method == "POST" and path == _JOBS:
            return self._create(body)
        name = path.removeprefix(f"{_JOBS}/")
        if name not in self.jobs:
            return 404, {"message": f"no {name}"}
        return 200, self._job(name) if method == "GET" else self._delete(name)

    def _of_pods(self, path: str, query: dict[str, list[str]]) -> Answer:
        if path == f"{_PODS}/{self.pod['metadata']['name']}":
            return 200, self.pod
        if path == _PODS:
            return 200, {"kind": "PodList", "apiVersion": "v1", "items": self._pods(query["labelSelector"][0])}
        if match := re.fullmatch(rf"{_PODS}/(.+)-node-0-(\d)/log", path):
            assert query["container"] == ["node"]
            lines = self._log(match[1], int(match[2])).read_text().splitlines(keepends=True)
            return 200, "".join(lines[-int(query["tailLines"][0]) :])
        return 404, {"message": f"no {path}"}

    def _create(self, job: dict[str, Any]) -> Answer:
        name = job["metadata"]["name"]
        if error := validation_error(job):
            return 422, {"message": error}
        if name in self.jobs:
            return 409, {"message": "it exists already"}
        self.jobs[name] = job
        self.created.append(job)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        count = range(job["spec"]["trainer"]["numNodes"])
        self.nodes[name] = [self._start(name, number, port) for number in count]
        return 201, job

    def _start(self, name: str, number: int, port: int) -> subprocess.Popen[bytes]:
        trainer = self.jobs[name]["spec"]["trainer"]
        environment = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        for entry in trainer["env"]:
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            value = self.secrets[reference["name"]].get(reference["key"]) if reference else entry["value"]
            if value is not None or not reference["optional"]:
                environment[entry["name"]] = value
        environment |= {
            "PET_NNODES": str(trainer["numNodes"]),
            "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_NODE_RANK": str(number),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(port),
        }
        *program, job = trainer["args"]
        assert program[0] == "python"
        command = [sys.executable, *(self.command or program[1:]), job]
        with self._log(name, number).open("wb") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def _log(self, name: str, number: int) -> Path:
        return self.folder / f"{name}-{number}.log"

    def _job(self, name: str) -> dict[str, Any]:
        ended = [node.poll() for node in self.nodes[name]]
        conditions = []
        if any(ended):
            conditions.append({"type": "Failed", "status": "True", "reason": "JobsFailed", "message": "a job failed"})
        elif all(status == 0 for status in ended):
            conditions.append({"type": "Complete", "status": "True", "reason": "AllJobsCompleted", "message": "done"})
        return {**self.jobs[name], "status": {"conditions": conditions}}

    def _pods(self, selector: str) -> list[dict[str, Any]]:
        labels = dict(part.split("=") for part in selector.split(","))
        name = labels["jobset.sigs.k8s.io/jobset-name"]
        first = labels.get("batch.kubernetes.io/job-completion-index")
        return [
            _node_pod(name, number, node.poll())
            for number, node in enumerate(self.nodes.get(name, []))
            if first in (None, str(number))
        ]

    def _delete(self, name: str) -> dict[str, Any]:
        for node in self.nodes.pop(name):
            node.terminate()
            node.wait(30)
        del self.jobs[name]
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}


def _node_pod(name: str, number: int, status: int | None) -> dict[str, Any]:
    ended = {"terminated": {"exitCode": status, "reason": "Error" if status else "Completed"}}
    state = {"running": {}} if status is None else ended
    container = {"name": "node", "state": state, "image": "", "imageID": "", "ready": False, "restartCount": 0}
    return {"metadata": {"name": f"{name}-node-0-{number}"}, "status": {"containerStatuses": [container]}}


@contextmanager
def serve(cluster: Cluster) -> Iterator[Path]:
    """Serve a cluster until the context ends; yields a file for KUBECONFIG."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            with lock:
                status, answer = cluster.answer(self.command, parts.path, parse_qs(parts.query), body)
            is_text = isinstance(answer, str)
            content = answer.encode() if is_text else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if is_text else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            """Log nothing."""

    lock = threading.Lock()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    named = {"cluster": {"server": f"http://127.0.0.1:{server.server_port}"}, "name": "double"}
    context = {"context": {"cluster": "double", "user": "step"}, "name": "double"}
    user = {"name": "step", "user": {"token": "of-the-step"}}
    known = {"clusters": [named], "contexts": [context], "users": [user], "current-context": "double"}
    file = cluster.folder / "kubeconfig"
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **known}))
    try:
        yield file
    finally:
        server.shutdown()
        server.server_close()
        for nodes in cluster.nodes.values():
            for node in nodes:
                node.kill()
                node.wait()
