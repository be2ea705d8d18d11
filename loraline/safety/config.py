"""Settings of the safety policy."""

from pydantic import field_validator

from loraline.config import StepConfig
from loraline.safety.policy_files import load_policy


class SafetyConfig(StepConfig):
    """The policy that data preparation, evaluation, the gate and inference apply."""

    policy: str = ""
    """A shipped policy's name (`medical`), a YAML file, or s3://bucket/policy.yaml; empty: none."""

    @field_validator("policy")
    @classmethod
    def _is_one(cls, source: str) -> str:
        """Validate a policy before anything runs; one in the object store is read when the run begins."""
        if source and not source.startswith("s3://"):
            load_policy(source)
        return source
