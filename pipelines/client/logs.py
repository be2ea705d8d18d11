"""Print the log of a step. KFP's API does not serve logs, so the pods' logs are read with kubectl."""

import json
import re
import shlex
import shutil
import subprocess

from loraline.errors import ClusterError, ConfigurationError

_NODE_NAME = "workflows.argoproj.io/node-name"  # Argo's annotation: <workflow>.root.<step>.executor


def pods_command(namespace: str, run_id: str) -> list[str]:
    """The kubectl command that lists a run's pods: KFP labels each with the run's id."""
    return ["kubectl", "get", "pods", "-n", namespace, "-l", f"pipeline/runid={run_id}", "-o", "json"]


def log_command(namespace: str, pod: str, follow: bool = False) -> list[str]:
    """The kubectl command that prints a step's log; the pod's other containers belong to Argo."""
    return ["kubectl", "logs", "-n", namespace, pod, "-c", "main", *(["-f"] if follow else [])]


def kubectl_commands(namespace: str, run_id: str, step: str) -> str:
    """Two shell commands that find the pod of a step and print its log."""
    column = "custom-columns=POD:.metadata.name,STEP:.metadata.annotations." + _NODE_NAME.replace(".", r"\.")
    find = ["kubectl", "get", "pods", "-n", namespace, "-l", f"pipeline/runid={run_id}", "-o", column]
    show = shlex.join(log_command(namespace, "POD")).replace("POD", "<POD>")
    return f"{shlex.join(find)} | grep -F .{step}.\n{show}"


def pods_of_step(listing: str, step: str) -> list[str]:
    """Names of the pods in which a step ran, oldest first: one for each attempt.

    If it never ran, the driver pods that prepared it.

    Args:
        listing: output of `pods_command`.
        step: the task's name in KFP.
    """
    pods = [
        (pod["metadata"]["creationTimestamp"], pod["metadata"]["annotations"].get(_NODE_NAME, ""), pod)
        for pod in json.loads(listing)["items"]
        if pod["metadata"].get("annotations")
    ]
    name = re.escape(step)
    for wanted in (rf"\.{name}\.executor(\(\d+\))?", rf"\.{name}-driver(\(\d+\))?"):
        found = [(created, pod["metadata"]["name"]) for created, node, pod in pods if re.search(wanted + "$", node)]
        if found:
            return [pod for _, pod in sorted(found)]
    return []


def show_log(namespace: str, run_id: str, step: str, follow: bool) -> None:
    """Print the log of a step's last attempt to standard output, through kubectl.

    Raises:
        ClusterError: kubectl is missing or fails, or the step has no pod (any more).
    """
    if shutil.which("kubectl") is None:
        raise ClusterError(
            "KFP's API does not serve logs, and kubectl is not on this machine's PATH. "
            f"On a machine that has it:\n{kubectl_commands(namespace, run_id, step)}"
        )
    listing = subprocess.run(pods_command(namespace, run_id), capture_output=True, text=True, check=False)
    if listing.returncode:
        reason = listing.stderr.strip().rpartition("\n")[2]  # the lines before the last report its attempts
        raise ClusterError(f"kubectl cannot list the run's pods in {namespace}: {reason}")
    pods = pods_of_step(listing.stdout, step)
    if not pods:
        raise ClusterError(
            f"step {step!r} has no pod in {namespace}: it has not started, its outcome came from the cache, or"
            " its pods are gone (an installation may archive logs in its object store, under the run's artifacts)."
        )
    if subprocess.run(log_command(namespace, pods[-1], follow), check=False).returncode:
        raise ClusterError(f"kubectl cannot read the log of pod {pods[-1]} in {namespace}")


def find_step(wanted: str, labels: dict[str, str]) -> str:
    """The task's name in KFP of a step that is given by that name, by its label, or with underscores.

    Raises:
        ConfigurationError: there is no such step.
    """
    for name, label in labels.items():
        if wanted.replace("_", "-") == name or wanted == label:
            return name
    raise ConfigurationError(f"no step {wanted!r}; there are: {', '.join(labels)}")
