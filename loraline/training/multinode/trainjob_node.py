"""A node of a TrainJob: `trainjob_node JOB`, with Trainer's PET_ variables, which torchrun reads, in the environment.

It downloads what training reads, runs torchrun on its GPUs together with the other nodes, and the first node uploads
the adapter to where the step looks for it.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from loraline.errors import LoralineError, StorageError
from loraline.step import raise_on_sigterm
from loraline.training.multinode.folder_transfer import download_folder, upload_folder
from loraline.training.multinode.trainjob import EXIT_NOT_RETRYABLE, NodeJob
from loraline.training.torchrun import ProcessLostError, TorchrunJob, torchrun

# How long nodes wait for one another to have downloaded the model.
_RENDEZVOUS_TIMEOUT = 3600  # seconds
# The node with the error exits at once; the others, which have only lost a peer, wait, so that its error is reported.
_PEER_LOST_DELAY = 10  # seconds


def main() -> None:
    """Run the node's part, and exit with a status that says whether a retry may help."""
    raise_on_sigterm()
    try:
        run_node(NodeJob.model_validate_json(sys.argv[1]))
    except (StorageError, ProcessLostError) as error:
        print(f"train_lora was interrupted: {error}", flush=True)
        time.sleep(_PEER_LOST_DELAY)
        sys.exit(1)
    except LoralineError as error:
        print(f"train_lora failed: {error}", flush=True)
        sys.exit(EXIT_NOT_RETRYABLE)


def run_node(node_job: NodeJob) -> None:
    """Download model and dataset, train, and on the first node upload the adapter."""
    with tempfile.TemporaryDirectory(prefix="loraline-node-") as temporary:
        folder = Path(temporary)
        download_folder(node_job.model, folder / "model")
        download_folder(node_job.dataset, folder / "dataset")
        job = TorchrunJob(
            config=node_job.config,
            model=folder / "model",
            dataset=folder / "dataset",
            output=folder / "adapter",
            checkpoints=node_job.checkpoints,
        )
        torchrun(job, int(os.environ["PET_NPROC_PER_NODE"]), f"--rdzv-conf=timeout={_RENDEZVOUS_TIMEOUT}")
        if os.environ["PET_NODE_RANK"] == "0":
            upload_folder(job.output, node_job.result)


if __name__ == "__main__":
    main()
