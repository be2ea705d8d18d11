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

from pipelines.finetune import finetune
from pipelines.local.services import services
from pipelines.local.tasks import watched


def main() -> None:
    """Run the fine-tuning pipeline with the parameters of the JSON file that the first argument names."""
    job = json.loads(Path(sys.argv[1]).read_text())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with services(Path(job["home"])), watched():
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(Path(job["home"]) / "artifacts"),
            enable_caching=True,
        )
        finetune(**job["parameters"])


def _end_with_parent() -> None:
    """Wait for the end of standard input: the parent has closed it, or is no more."""
    sys.stdin.buffer.read()
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
