"""The process that runs a pipeline through kfp.local; `pipelines.local.run` starts it and reads its output.

It leads its own process group, which holds the S3 server and the running step, and kills the whole group when its
standard input closes: no process is left behind, however the command that started it ends.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from kfp import local

from pipelines.compile import load_pipeline
from pipelines.local.forks import fork_steps
from pipelines.local.kfp_tasks import watched
from pipelines.local.services import services


def main() -> None:
    """Run the pipeline that the JSON file in the first argument names, with the parameters in it."""
    job = json.loads(Path(sys.argv[1]).read_text())
    pipeline = load_pipeline(job["pipeline"])  # before kfp.local is initialized, after which a call runs a component
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with services(Path(job["home"])), fork_steps(), watched():
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(Path(job["home"]) / "artifacts"),
            enable_caching=True,
        )
        pipeline(**job["parameters"])


def _end_with_parent() -> None:
    """Kill the process group at the end of standard input: the parent has closed it, or has ended."""
    while os.read(0, 1):  # not sys.stdin, whose lock this thread would hold while the interpreter ends
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
