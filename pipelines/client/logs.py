"""The log of a run's step. KFP's API has no call for it: the pods' logs are read with kubectl."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable

from loraline.errors import ClusterError, ConfigurationError

_NODE_NAME = "workflows.argoproj.io/node-name"  # Argo's annotation: <workflow>.root.<step>.executor


def pods_command(namespace: str, run_id: str) -> list[str]:
    """The kubectl command that lists a run's pods: KFP labels each with the run's id."""
    return ["kubectl", "get", "pods", "-n", namespace, "-l", f"pipeline/runid={run_id}", "-o", "json"]


def log_command(namespace: str, pod: str, follow: bool = False) -> list[str]:
    """The kubectl command that prints a step's log; the other containers of its pod are the engine's."""
    return ["kubectl", "logs", "-n", namespace, pod, "-c", "main", *(["-f"] if follow else [])]


def by_hand(namespace: str, run_id: str, step: str) -> str:
    """The same in two commands for a person: find the step's pod, print its log."""
    column = "custom-columns=POD:.metadata.name,STEP:.metadata.annotations." + _NODE_NAME.replace(".", r"\.")
    find = ["kubectl", "get", "pods", "-n", namespace, "-l", f"pipeline/runid={run_id}", "-o", column]
    show = shlex.join(log_command(namespace, "POD")).replace("POD", "<POD>")
    return f"{shlex.join(find)} | grep -F .{step}.\n{show}"


def pods_of_step(listing: str, step: str) -> list[str]:
    """Names of the pods in which a step ran, oldest first: one for each attempt.

    Where it never came to run, the pods that prepared it.

    Args:
        listing: what `pods_command` printed.
        step: the step's name in the engine.
    """
    pods = [
        (pod["metadata"]["creationTimestamp"], pod["metadata"]["annotations"].get(_NODE_NAME, ""), pod)
        for pod in json.loads(listing)["items"]
        if pod["metadata"].get("annotations")
    ]
    name = re.escape(step)
    for wanted in (rf"\.{name}\.executor(\(\d+\))?", rf"\.{name}-driver(\(\d+\))?"):
        found = [(born, pod["metadata"]["name"]) for born, node, pod in pods if re.search(wanted + "$", node)]
        if found:
            return [pod for _, pod in sorted(found)]
    return []


def show_log(namespace: str, run_id: str, step: str, follow: bool) -> None:
    """Print the log of a step's last attempt to standard output, through kubectl.

    Raises:
        ClusterError: there is no kubectl, it fails, or the step has no pod (any more).
    """
    if shutil.which("kubectl") is None:
        raise ClusterError(
            "KFP's API does not hand out logs, and kubectl, which does, is not on this machine's PATH. "
            f"Where it is:\n{by_hand(namespace, run_id, step)}"
        )
    listing = subprocess.run(pods_command(namespace, run_id), capture_output=True, text=True, check=False)
    if listing.returncode:
        said = listing.stderr.strip().rpartition("\n")[2]  # before its last line it tells its attempts
        raise ClusterError(f"kubectl cannot list the run's pods in {namespace}: {said}")
    pods = pods_of_step(listing.stdout, step)
    if not pods:
        raise ClusterError(
            f"step {step!r} has no pod in {namespace}: it has not started, its outcome came from the cache, or"
            " its pods are gone (an installation may archive logs in its object store, under the run's artifacts)."
        )
    if subprocess.run(log_command(namespace, pods[-1], follow), check=False).returncode:
        raise ClusterError(f"kubectl cannot read the log of pod {pods[-1]} in {namespace}")


def check_step(said: str, labels: dict[str, str]) -> str:
    """The engine's name of the step that is meant: by that name, by its label, or with underscores.

    Raises:
        ConfigurationError: no step has it.
    """
    for name, label in labels.items():
        if said.replace("_", "-") == name or said == label:
            return name
    raise ConfigurationError(f"no step {said!r}; there are: {_listing(labels)}")


def _listing(names: Iterable[str]) -> str:
    return ", ".join(names)
