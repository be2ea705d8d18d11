"""What may be set about safety."""

from pydantic import field_validator

from loraline.config import StepConfig
from loraline.safety.policy_files import load_policy


class SafetyConfig(StepConfig):
    """The policy that data, evaluation, gate and inference go by."""

    policy: str = ""
    """A shipped policy's name (`medical`), a YAML file, or s3://bucket/policy.yaml; empty: none."""

    @field_validator("policy")
    @classmethod
    def _is_one(cls, source: str) -> str:
        """See what is wrong with a policy before anything runs; one in the store is read when the run begins."""
        if source and not source.startswith("s3://"):
            load_policy(source)
        return source
