"""A safety policy: one file that training, evaluation, the gate and inference all apply."""

from loraline.artifacts.evaluation import ProbeResult
from loraline.safety.policy import Policy
from loraline.safety.policy_files import load_policy, read_policy, shipped_policies, write_policy
from loraline.safety.policy_schema import Budget, Probe
from loraline.safety.probes import ProbeReport, score_answers
from loraline.safety.screening import ALLOWED, Decision, Match, check_answer, check_prompt, screen_row

__all__ = [
    "ALLOWED",
    "Budget",
    "Decision",
    "Match",
    "Policy",
    "Probe",
    "ProbeReport",
    "ProbeResult",
    "check_answer",
    "check_prompt",
    "load_policy",
    "read_policy",
    "score_answers",
    "screen_row",
    "shipped_policies",
    "write_policy",
]
