"""Run the fine-tuning pipeline through kfp.local's DockerRunner, in the images that the environment names.

`python -m tests.images.pipeline_in_containers job.json`, with the job's `pipeline_root` and `parameters`. Its
events are those of `pipelines.local.kfp_worker`. A process of its own, because the steps' images are read when the
steps are imported.
"""

import json
import os
import sys
from pathlib import Path

from kfp import local

from pipelines.finetune import finetune
from pipelines.local.tasks import watched

_PASSED_ON = ("AWS_", "MLFLOW_", "LORALINE_RUN_ID", "LORALINE_EVENTS", "OMP_NUM_THREADS")


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
    with watched():
        local.init(runner=runner, pipeline_root=job["pipeline_root"])
        finetune(**job["parameters"])


if __name__ == "__main__":
    main()
