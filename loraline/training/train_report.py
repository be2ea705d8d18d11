"""What training leaves for people and for the steps after it: training.json."""

import resource
import sys

import torch

from loraline.training.collator import Documents


def peak_memory(device: torch.device) -> int:
    """Largest memory in use so far, in bytes: the device's on CUDA, else the process's."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def masked_fraction(documents: Documents) -> float:
    """Part of the tokens that carries no loss."""
    return 1 - float(documents.loss.mean())
