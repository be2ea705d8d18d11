"""Watch the tasks of a pipeline that kfp.local runs, and have it stop at the first that fails.

kfp.local tells of its tasks in log lines only, goes on with other tasks after one has failed, and takes
tasks that could run side by side by the alphabet. So two of its functions are wrapped. Should a release of
kfp move them, the first test that runs a pipeline fails.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from graphlib import TopologicalSorter
from typing import Any

from kfp import dsl
from kfp.local import graph_utils
from kfp.local.orchestrator import task_executor
from kfp.local.status import Status

from loraline.identity.digests import json_digest
from loraline.identity.libraries import library_versions
from loraline.progress import EVENT_MARK

# Whatever is wrong with the rows is then known in seconds, before a model is fetched.
_FIRST = "prepare-dataset"
_LIBRARIES = "LORALINE_LIBRARIES"


class TaskFailedError(RuntimeError):
    """A task has failed; what it had to say has been emitted."""


def emit(event: dict[str, Any]) -> None:
    """Write an event where `pipelines.local.run` reads it."""
    print(EVENT_MARK, json.dumps(event), flush=True)


@contextmanager
def watched() -> Iterator[None]:
    """Emit an event as each task starts and ends, until the context ends.

    Inside it, a pipeline raises TaskFailedError as soon as a task has failed.
    """
    execute, sort = task_executor.execute_single_task, graph_utils.topological_sort_tasks
    task_executor.execute_single_task, graph_utils.topological_sort_tasks = _watching(execute), _stack
    try:
        yield
    finally:
        task_executor.execute_single_task, graph_utils.topological_sort_tasks = execute, sort


def _watching(execute: Callable[..., Any]) -> Callable[..., Any]:
    def execute_and_tell(*, task_spec: Any, pipeline_resource_name: str, **others: Any) -> Any:
        name = _name(task_spec)
        _name_libraries(task_spec, others)
        emit({"kind": "start", "name": name})
        started = time.monotonic()
        outputs, status = execute(task_spec=task_spec, pipeline_resource_name=pipeline_resource_name, **others)
        artifacts = {key: value.uri for key, value in outputs.items() if isinstance(value, dsl.Artifact)}
        fresh = not artifacts or any(f"/{pipeline_resource_name}/" in uri for uri in artifacts.values())
        emit(
            {
                "kind": "end",
                "name": name,
                "state": "failed" if status is Status.FAILURE else "done" if fresh else "cached",
                "seconds": round(time.monotonic() - started, 3),
                "outputs": artifacts | {k: v for k, v in outputs.items() if isinstance(v, str)},
            }
        )
        if status is Status.FAILURE:
            raise TaskFailedError(name)
        return outputs, status

    return execute_and_tell


def _name_libraries(task_spec: Any, others: Mapping[str, Any]) -> None:
    """Put the versions of the libraries that compute in a step into its cache key, as a variable of its environment.

    On a cluster the image, which is in the key, stands for them. Here this environment does.
    """
    executor = others["executors"].get(others["components"][task_spec.component_ref.name].executor_label)
    if executor is not None and not any(variable.name == _LIBRARIES for variable in executor.container.env):
        executor.container.env.add(name=_LIBRARIES, value=json_digest(library_versions(_component(task_spec))))


def _name(task_spec: Any) -> str:
    """The display name where the pipeline gives one, else the component's."""
    name: str = task_spec.task_info.name
    return name if " " in name else _component(task_spec)


def _component(task_spec: Any) -> str:
    """The component's name; kfp numbers a component's second task and the ones after it."""
    name: str = task_spec.component_ref.name
    return name.removeprefix("comp-").rstrip("-0123456789").replace("-", "_")


def _stack(tasks: Mapping[str, Any]) -> list[str]:
    """The tasks in the reverse of the order in which they are to run."""
    sorter = TopologicalSorter({name: set(task.dependent_tasks) & set(tasks) for name, task in tasks.items()})
    sorter.prepare()
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda name: (name != _FIRST, name))
        order += ready
        sorter.done(*ready)
    return order[::-1]
