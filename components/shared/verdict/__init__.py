"""The verdict: what follows from the findings of a run, and from nothing else."""

from components.shared.verdict.weigh import Weighing, reweigh, weigh

__all__ = ["Weighing", "reweigh", "weigh"]
