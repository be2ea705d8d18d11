"""The container images of the steps on a cluster."""

import os

LIGHT = os.environ.get("LORALINE_LIGHT_IMAGE") or "loraline-light:0.1.0"
"""Image of the steps that need no torch."""

GPU = os.environ.get("LORALINE_GPU_IMAGE") or "loraline-gpu:0.1.0"
"""Image of the steps that load a model."""
