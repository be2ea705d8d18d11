"""Watch the tasks of a pipeline that kfp.local runs.

kfp.local tells of its tasks in log lines only, so its one function through which every task goes is
wrapped. Should a release of kfp move it, the first test that runs a pipeline fails.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kfp import dsl
from kfp.local.orchestrator import task_executor
from kfp.local.status import Status

from components.shared.progress import EVENT_MARK


def emit(event: dict[str, Any]) -> None:
    """Write an event where `pipelines.local.run` reads it."""
    print(EVENT_MARK, json.dumps(event), flush=True)


@contextmanager
def watched() -> Iterator[None]:
    """Emit an event as each task starts and ends, until the context ends."""
    original = task_executor.execute_single_task
    task_executor.execute_single_task = _watching(original)
    try:
        yield
    finally:
        task_executor.execute_single_task = original


def _watching(execute: Callable[..., Any]) -> Callable[..., Any]:
    def execute_and_tell(*, task_spec: Any, pipeline_resource_name: str, **others: Any) -> Any:
        name = task_spec.task_info.name
        name = name if " " in name else name.rstrip("-0123456789").replace("-", "_")
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
        return outputs, status

    return execute_and_tell
