"""The verdict: what follows from the findings of a run, and from nothing else."""

from loraline.gate.weigh import Weighing, reweigh, weigh

__all__ = ["Weighing", "reweigh", "weigh"]
