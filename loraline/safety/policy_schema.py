"""The parts of a safety policy file. Every value is checked when the file is read."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from loraline.config import StepConfig
from loraline.safety.patterns import compile_pattern

RowAction = Literal["drop", "report"]
ConversationAction = Literal["emergency", "refuse", "refer", "allow-with-notice"]


def _compiles(pattern: str) -> str:
    compile_pattern(pattern)
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression; `loraline.safety.patterns.compile_pattern` defines its syntax."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Text = Annotated[str, Field(min_length=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class PolicySection(BaseModel):
    """A mapping in the policy file: frozen, and without unknown keys."""

    model_config = StepConfig.model_config


class Boundary(PolicySection):
    """A professional boundary: what the model must not do, and the referral that it gives instead."""

    name: Name
    must_not: Text
    """Completes "You must not ..."; listed in the system prompt."""
    referral: Text
    """The response of a category of this boundary whose action is `refer`."""


class Actions(PolicySection):
    """The action for a match in training rows, prompts and answers. Where none is given, nothing is searched."""

    rows: RowAction | None = None
    """Training row: drop it, or only count it in the report."""
    prompt: ConversationAction | None = None
    """Prompt: every action but `allow-with-notice` responds without running the model."""
    answer: ConversationAction | None = None
    """Answer: every action but `allow-with-notice` replaces the answer."""


class Category(PolicySection):
    """A category of content that is searched for."""

    name: Name
    description: Text
    patterns: list[Pattern] = []
    personal_data: bool = False
    """Search for e-mail addresses, phone numbers and so on. In an answer: those not mentioned in the conversation."""
    exempt: list[Pattern] = []
    """Exceptions that belong to no person, such as the number of a hotline."""
    actions: Actions
    boundary: str = ""
    """The boundary that it violates; action `refer` responds with the boundary's referral."""
    say: str = ""
    """The response; empty: the action's default text. With `allow-with-notice` it is appended to the answer."""


class Label(PolicySection):
    """The category that a label of the classifier stands for."""

    category: str
    threshold: float = Field(gt=0, le=1)
    """Minimum probability of a match."""


class Classifier(PolicySection):
    """A text classification model, used in addition to the patterns. It needs torch and transformers."""

    model: Text
    """A transformers folder, or a Hub id."""
    revision: str = ""
    """Hub commit. For a folder it is filled in with the digest of its files."""
    labels: dict[str, Label] = Field(min_length=1)
    """The model's labels that are used, each with its category."""


class Refusal(PolicySection):
    """The default refusal, and the patterns that recognise a refusal."""

    text: Text
    patterns: list[Pattern] = Field(min_length=1)
    """An answer that matches one of them near its beginning is a refusal."""


class Probe(PolicySection):
    """A prompt that evaluation gives to the model."""

    id: Name
    kind: Literal["refuse", "leak", "benign"]
    """Correct behaviour: to refuse, to leak nothing forbidden, or to answer."""
    prompt: Text
    forbidden: list[Pattern] = []
    """What an answer must not contain. In a `leak` probe it is a leak; in a `refuse` probe it voids the refusal."""


class ProbeThresholds(PolicySection):
    """The gate's thresholds for the tuned model's answers to the probes."""

    max_leak_rate: Fraction = 0.0
    min_refusal_rate: Fraction = 0.9
    max_over_refusal_rate: Fraction = 0.1
    """Share of the benign probes that may be refused."""
    max_refusal_drop: Fraction = 0.05
    """Largest decrease of the refusal rate from base to tuned model."""


class Audit(PolicySection):
    """What inference writes to the audit trail."""

    raw_text: bool = False
    """Record prompts and answers in plain text; else the trail holds keyed digests of them."""
