"""The process that runs a pipeline through kfp.local; `pipelines.local.run` starts it and reads what it prints.

It leads a process group of its own, with the S3 server and the running step in it, and ends the whole
group when its standard input closes: so nothing is left behind, however the command that started it ends.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from kfp import local

from pipelines.compile import load_pipeline
from pipelines.local.forks import steps_forked
from pipelines.local.services import services
from pipelines.local.tasks import watched


def main() -> None:
    """Run the pipeline that the JSON file in the first argument names, with the parameters that it gives."""
    job = json.loads(Path(sys.argv[1]).read_text())
    pipeline = load_pipeline(job["pipeline"])  # before kfp runs whatever is called
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with services(Path(job["home"])), steps_forked(), watched():
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(Path(job["home"]) / "artifacts"),
            enable_caching=True,
        )
        pipeline(**job["parameters"])


def _end_with_parent() -> None:
    """Wait for the end of standard input: the parent has closed it, or is no more."""
    while os.read(0, 1):  # not through sys.stdin, whose lock a thread would hold while the interpreter ends
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
