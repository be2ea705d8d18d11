"""A node of a TrainJob: `trainjob_node JOB`, with Trainer's PET_ variables in the environment.

It downloads what training reads, trains in a process for each of its GPUs together with the other nodes, and the first
node uploads the adapter to where the step looks for it.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from loraline.errors import LoralineError, StorageError
from loraline.step import raise_on_sigterm
from loraline.training.multinode.folder_transfer import download_folder, upload_folder
from loraline.training.multinode.trainjob import EXIT_NOT_RETRYABLE, NodeJob
from loraline.training.worker_processes import NodePlace, ProcessLostError, WorkerJob, train_in_processes

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
        job = WorkerJob(
            config=node_job.config,
            model=folder / "model",
            dataset=folder / "dataset",
            output=folder / "adapter",
            checkpoints=node_job.checkpoints,
        )
        place = node_place(os.environ)
        train_in_processes(job, int(os.environ["PET_NPROC_PER_NODE"]), place)
        if place.rank == 0:
            upload_folder(job.output, node_job.result)


def node_place(environment: Mapping[str, str]) -> NodePlace:
    """Read this node's place from Trainer's variables."""
    return NodePlace(
        rank=int(environment["PET_NODE_RANK"]),
        nodes=int(environment["PET_NNODES"]),
        rendezvous=f"tcp://{environment['PET_MASTER_ADDR']}:{environment['PET_MASTER_PORT']}",
    )


if __name__ == "__main__":
    main()
