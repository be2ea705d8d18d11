"""Run the fine-tuning pipeline through kfp.local's DockerRunner, each step in the image that the environment names.

`python -m tests.images.pipeline_in_containers job.json`, with the job's `pipeline_root` and `parameters`. Its
events are those of `pipelines.local.kfp_worker`, and one more of each step: `image`. A process of its own, because the
steps' images are read when the components are imported.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kfp import local
from kfp.local import docker_task_handler

from pipelines.finetune import finetune
from pipelines.local.kfp_tasks import emit, watched

_PASSED_ON = ("AWS_", "MLFLOW_", "LORALINE_RUN_ID", "LORALINE_EVENTS", "OMP_")


def main() -> None:
    """Run the pipeline; every step as the image's own user, on a file system that it cannot write, with no rights."""
    job = json.loads(Path(sys.argv[1]).read_text())
    os.umask(0)  # the folders that kfp makes for a step are written by the image's user
    runner = local.DockerRunner(
        read_only=True,
        tmpfs={"/tmp": "exec", "/cache": "mode=1777"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="host",  # the stores listen on this machine's loopback
        environment={name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)},
    )
    with watched(), _images_reported():
        local.init(runner=runner, pipeline_root=job["pipeline_root"])
        finetune(**job["parameters"])


@contextmanager
def _images_reported() -> Iterator[None]:
    """Emit an event with the image of each container that kfp.local runs, until the context ends."""
    run = docker_task_handler.run_docker_container

    def run_and_report(*, image: str, **others: Any) -> int:
        emit({"kind": "image", "image": image})
        return run(image=image, **others)

    docker_task_handler.run_docker_container = run_and_report
    try:
        yield
    finally:
        docker_task_handler.run_docker_container = run


if __name__ == "__main__":
    main()
