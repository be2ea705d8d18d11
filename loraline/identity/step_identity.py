"""What a step's result depends on beside its settings and inputs, determined where the step runs."""

from loraline.artifacts.base import StepIdentity
from loraline.identity.code import code_digest
from loraline.identity.libraries import library_versions


def step_identity(step: str) -> StepIdentity:
    """The code and libraries that compute a step here, for its report and for the key of its checkpoints.

    Args:
        step: a key of `loraline.identity.code.STEPS`.
    """
    return StepIdentity(code=code_digest(step), libraries=library_versions(step))
