"""MLflow: one tree of runs for a pipeline run."""

from loraline.tracking.tracker import Tracker, child_run, connect, parent_run, preload, tracking_uri

__all__ = ["Tracker", "child_run", "connect", "parent_run", "preload", "tracking_uri"]
