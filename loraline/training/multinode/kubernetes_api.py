"""The five things that a step asks of the Kubernetes API; what it may ask stands in manifests/overlays/multi-node."""

import os
from collections.abc import Callable
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client import ApiException

from loraline.errors import ClusterAwayError, ClusterError, ConfigurationError
from loraline.training.multinode.trainjob import GROUP, NODE, PLURAL, VERSION, Manifest

_TIMEOUT = 30  # seconds
_JOB_LABEL = "jobset.sigs.k8s.io/jobset-name"
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
_NO_LOG_YET = ("is waiting to start", "does not have a host assigned")


class Kubernetes:
    """The API server, as the step's service account may use it: within the namespace of its pod.

    Every method raises ClusterAwayError where the server does not answer or has too much to do, ConfigurationError
    where the cluster is not set up for it, and ClusterError where it refuses for another reason.
    """

    def __init__(self) -> None:
        if os.environ.get("KUBECONFIG"):
            config.load_kube_config(os.environ["KUBECONFIG"])
        else:
            config.load_incluster_config()
        self._namespace = os.environ["LORALINE_NAMESPACE"]
        self._core = client.CoreV1Api()
        jobs = client.CustomObjectsApi()
        place = (GROUP, VERSION, self._namespace, PLURAL)
        self._get, self._create, self._delete = (
            lambda *arguments, call=call: _ask(call, *place, *arguments)
            for call in (
                jobs.get_namespaced_custom_object,
                jobs.create_namespaced_custom_object,
                jobs.delete_namespaced_custom_object,
            )
        )

    def own_pod(self) -> Manifest:
        """The pod that this process runs in."""
        return _plain(_ask(self._core.read_namespaced_pod, os.environ["LORALINE_POD"], self._namespace))

    def find(self, name: str) -> Manifest | None:
        """A TrainJob; None where there is none."""
        return self._get(name)

    def create(self, job: Manifest) -> None:
        """Make a TrainJob, unless somebody has made it meanwhile."""
        if self._create(job) is None:
            raise ConfigurationError(
                "the cluster knows no TrainJob: install Kubeflow Trainer 2.2 or later, or set training.nodes=1"
            )

    def delete(self, name: str) -> None:
        """Remove a TrainJob and its pods, if it is there."""
        self._delete(name)

    def pods(self, job: str, first: bool = False) -> list[Manifest]:
        """The pods of a TrainJob: of all nodes, or of the first."""
        labels = f"{_JOB_LABEL}={job}" + (f",{_INDEX_LABEL}=0" if first else "")
        found = _ask(self._core.list_namespaced_pod, self._namespace, label_selector=labels)
        return [_plain(pod) for pod in found.items]

    def log(self, pod: Manifest, lines: int) -> list[str]:
        """The last lines of a pod's log; none where it has not begun."""
        which = (pod["metadata"]["name"], self._namespace)
        text: str | None = _ask(self._core.read_namespaced_pod_log, *which, container=NODE, tail_lines=lines)
        return (text or "").splitlines()


def _plain(answer: Any) -> Manifest:
    """An object as JSON has it."""
    plain: Manifest = client.ApiClient().sanitize_for_serialization(answer)
    return plain


def _ask(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Make one request. None: what it is about is not there, or not yet."""
    try:
        return call(*arguments, **options, _request_timeout=_TIMEOUT)
    except urllib3.exceptions.HTTPError as error:
        raise ClusterAwayError(f"the Kubernetes API does not answer: {error}") from error
    except ApiException as error:
        return _refused(error)


def _refused(error: ApiException) -> Any:
    if error.status == 404 or any(reason in str(error.body) for reason in _NO_LOG_YET):
        return None
    if error.status == 409:
        return {}
    if error.status == 403:
        raise ConfigurationError(
            f"the step's service account may not do what training on several nodes asks for; apply "
            f"manifests/overlays/multi-node, or set training.nodes=1: {error.body}"
        ) from error
    if error.status == 429 or error.status >= 500:
        raise ClusterAwayError(f"the Kubernetes API answers {error.status} {error.reason}") from error
    raise ClusterError(f"the Kubernetes API answers {error.status} {error.reason}: {error.body}") from error
