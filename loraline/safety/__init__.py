"""A safety policy: one file that training, evaluation, the gate and inference all go by."""

from loraline.safety.policy import Budget, Policy, Probe
from loraline.safety.policy_files import load_policy, read_policy, shipped_policies, write_policy
from loraline.safety.probes import ProbeReport, ProbeResult
from loraline.safety.screening import ALLOWED, Decision, Match

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
