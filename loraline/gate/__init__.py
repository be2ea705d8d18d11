"""The verdict: what follows from the findings of a run, and from nothing else."""
