"""A node of a TrainJob: `node JOB`, with Trainer's PET_ variables, which torchrun reads, in the environment.

It fetches what training reads, has torchrun train on its GPUs together with the other nodes, and the first node puts
the adapter where the step looks for it.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from loraline.errors import LoralineError, StorageError
from loraline.step import raise_on_sigterm
from loraline.training.multinode.folder_transfer import fetch, offer
from loraline.training.multinode.trainjob import WILL_FAIL_AGAIN, NodeJob
from loraline.training.torchrun import BrokenOffError, Job, torchrun

# Longest that nodes wait for one another to have fetched the model.
_RENDEZVOUS_SECONDS = 3600
# The node whose error it was ends at once; the others, which have only lost a peer, leave it to say why.
_SECONDS_FOR_THE_CAUSE = 10


def main() -> None:
    """Carry out a node's part, and end with a status that says whether another try may help."""
    raise_on_sigterm()
    try:
        carry_out(NodeJob.model_validate_json(sys.argv[1]))
    except (StorageError, BrokenOffError) as error:
        print(f"train_lora broke off: {error}", flush=True)
        time.sleep(_SECONDS_FOR_THE_CAUSE)
        sys.exit(1)
    except LoralineError as error:
        print(f"train_lora failed: {error}", flush=True)
        sys.exit(WILL_FAIL_AGAIN)


def carry_out(told: NodeJob) -> None:
    """Fetch, train, and on the first node put the adapter into the object store."""
    with tempfile.TemporaryDirectory(prefix="loraline-node-") as folder:
        here = Path(folder)
        for part in ("model", "dataset"):
            fetch(getattr(told, part), here / part)
        job = Job(
            config=told.config,
            model=here / "model",
            dataset=here / "dataset",
            output=here / "adapter",
            checkpoints=told.checkpoints,
            code=told.code,
        )
        torchrun(job, int(os.environ["PET_NPROC_PER_NODE"]), f"--rdzv-conf=timeout={_RENDEZVOUS_SECONDS}")
        if os.environ["PET_NODE_RANK"] == "0":
            offer(job.output, told.result)


if __name__ == "__main__":
    main()
