"""A safety policy: one file that training, evaluation, the gate and inference all go by."""

from components.shared.policy.load import load_policy, read_policy, shipped_policies, write_policy
from components.shared.policy.probes import ProbeReport, ProbeResult
from components.shared.policy.schema import Budget, Policy, Probe
from components.shared.policy.screening import ALLOWED, Decision, Match

__all__ = [
    "ALLOWED",
    "Budget",
    "Decision",
    "Match",
    "Policy",
    "Probe",
    "ProbeReport",
    "ProbeResult",
    "load_policy",
    "read_policy",
    "shipped_policies",
    "write_policy",
]
