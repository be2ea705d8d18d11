"""The five requests of a step to the Kubernetes API; manifests/overlays/multi-node grants the permissions."""

import os
from collections.abc import Callable
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client import ApiException

from loraline.errors import ClusterAwayError, ClusterError, ConfigurationError
from loraline.training.multinode.trainjob import (
    NODE_CONTAINER,
    TRAINER_GROUP,
    TRAINER_PLURAL,
    TRAINER_VERSION,
    KubernetesObject,
)

_REQUEST_TIMEOUT = 30  # seconds
_JOB_LABEL = "jobset.sigs.k8s.io/jobset-name"
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
_NO_LOG_YET = ("is waiting to start", "does not have a host assigned")


class KubernetesClient:
    """Client of the Kubernetes API, with the permissions of the step's service account in its own namespace.

    Every method raises ClusterAwayError where the server does not answer or is overloaded, ConfigurationError where
    the cluster is not set up for TrainJobs, and ClusterError where it refuses for another reason.
    """

    def __init__(self) -> None:
        if os.environ.get("KUBECONFIG"):
            config.load_kube_config(os.environ["KUBECONFIG"])
        else:
            config.load_incluster_config()
        self._namespace = os.environ["LORALINE_NAMESPACE"]
        self._core = client.CoreV1Api()
        jobs = client.CustomObjectsApi()
        resource = (TRAINER_GROUP, TRAINER_VERSION, self._namespace, TRAINER_PLURAL)
        self._get, self._create, self._delete = (
            lambda *arguments, call=call: _request(call, *resource, *arguments)
            for call in (
                jobs.get_namespaced_custom_object,
                jobs.create_namespaced_custom_object,
                jobs.delete_namespaced_custom_object,
            )
        )

    def own_pod(self) -> KubernetesObject:
        """Return the pod that this process runs in."""
        return _to_json(_request(self._core.read_namespaced_pod, os.environ["LORALINE_POD"], self._namespace))

    def find(self, name: str) -> KubernetesObject | None:
        """Return a TrainJob; None where there is none."""
        return self._get(name)

    def create(self, job: KubernetesObject) -> None:
        """Create a TrainJob, unless it exists."""
        if self._create(job) is None:
            raise ConfigurationError(
                "the cluster has no TrainJob resource: install Kubeflow Trainer 2.2 or later, or set training.nodes=1"
            )

    def delete(self, name: str) -> None:
        """Delete a TrainJob and its pods, if it exists."""
        self._delete(name)

    def pods(self, job: str, first: bool = False) -> list[KubernetesObject]:
        """Return the pods of a TrainJob: of all nodes, or of the first."""
        labels = f"{_JOB_LABEL}={job}" + (f",{_INDEX_LABEL}=0" if first else "")
        pods = _request(self._core.list_namespaced_pod, self._namespace, label_selector=labels)
        return [_to_json(pod) for pod in pods.items]

    def log(self, pod: KubernetesObject, lines: int) -> list[str]:
        """Return the last lines of a pod's log; none where it has not started."""
        name = (pod["metadata"]["name"], self._namespace)
        text: str | None = _request(
            self._core.read_namespaced_pod_log, *name, container=NODE_CONTAINER, tail_lines=lines
        )
        return (text or "").splitlines()


def _to_json(model: Any) -> KubernetesObject:
    """Convert a model of the client to JSON."""
    json: KubernetesObject = client.ApiClient().sanitize_for_serialization(model)
    return json


def _request(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Make one request. None: the object does not exist, or has not started."""
    try:
        return call(*arguments, **options, _request_timeout=_REQUEST_TIMEOUT)
    except urllib3.exceptions.HTTPError as error:
        raise ClusterAwayError(f"the Kubernetes API does not answer: {error}") from error
    except ApiException as error:
        return _handle_error(error)


def _handle_error(error: ApiException) -> Any:
    if error.status == 404 or any(reason in str(error.body) for reason in _NO_LOG_YET):
        return None
    if error.status == 409:
        return {}
    if error.status == 403:
        raise ConfigurationError(
            f"the step's service account lacks a permission that training on several nodes needs; apply "
            f"manifests/overlays/multi-node, or set training.nodes=1: {error.body}"
        ) from error
    if error.status == 429 or error.status >= 500:
        raise ClusterAwayError(f"the Kubernetes API answers {error.status} {error.reason}") from error
    raise ClusterError(f"the Kubernetes API answers {error.status} {error.reason}: {error.body}") from error
