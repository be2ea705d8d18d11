"""A safety policy, with the checks that its parts are consistent."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, model_validator

from loraline.config import StepConfig
from loraline.data.messages import SYSTEM_ROLES
from loraline.identity.digests import json_digest
from loraline.safety.patterns import NormalizedText
from loraline.safety.policy_schema import (
    Audit,
    Boundary,
    Category,
    Classifier,
    ConversationAction,
    Name,
    Probe,
    ProbeThresholds,
    Refusal,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loraline.artifacts.dataset_files import Message

BOUNDARIES = "{boundaries}"
"""Placeholder in the system prompt for the list of the boundaries."""

_REFUSAL_WINDOW = 300  # characters: a refusal comes first, and what follows an answer is a disclaimer

_TEXT_SOURCES = {
    "emergency": "write the policy's emergency text, or its own say",
    "refuse": "write refusal.text, or its own say",
    "refer": "name a boundary, or write its own say",
    "allow-with-notice": "write the notice as its say",
}


class Policy(BaseModel):
    """A complete safety policy."""

    model_config = StepConfig.model_config

    name: Name
    version: Text
    description: Text
    system_prompt: str = ""
    """Prepended to every conversation without a system message. `{boundaries}` is replaced by their list."""
    boundaries: list[Boundary] = []
    categories: list[Category] = []
    classifier: Classifier | None = None
    refusal: Refusal
    emergency: str = ""
    """The response of a category whose action is `emergency`."""
    probes: list[Probe] = []
    thresholds: ProbeThresholds = ProbeThresholds()
    audit: Audit = Audit()

    @model_validator(mode="before")
    @classmethod
    def _list_boundaries(cls, values: Any) -> Any:
        """Insert the boundaries into the system prompt. A policy that `write_policy` wrote has them already."""
        if not isinstance(values, dict) or BOUNDARIES not in str(values.get("system_prompt")):
            return values
        listed = "\n".join(
            f"- {one['must_not']}"
            for one in values.get("boundaries") or []
            if isinstance(one, dict) and "must_not" in one
        )
        return {**values, "system_prompt": values["system_prompt"].replace(BOUNDARIES, listed)}

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        problems = [
            *self._duplicate_names(),
            *self._dangling_references(),
            *self._missing_texts(),
            *self._unrecognised_refusals(),
            *self._missing_probes(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @classmethod
    def of(cls, settings_value: dict[str, Any] | None) -> Self | None:
        """The policy in a step's settings, as `Policy.model_dump(mode="json")` gives it; None for None."""
        return None if settings_value is None else cls.model_validate(settings_value)

    @property
    def digest(self) -> str:
        """SHA-256 of the policy's content."""
        return json_digest(self.model_dump(mode="json"))

    def with_system_prompt(self, messages: "Sequence[Message]") -> "list[Message]":
        """Prepend the policy's system prompt, unless the conversation has a system message."""
        if not self.system_prompt or any(message["role"] in SYSTEM_ROLES for message in messages):
            return list(messages)
        return [{"role": "system", "content": self.system_prompt}, *messages]

    def is_refusal(self, answer: str) -> bool:
        """Whether an answer begins with one of the refusal patterns."""
        beginning = NormalizedText(answer.lstrip()[:_REFUSAL_WINDOW])
        return any(beginning.find(pattern) for pattern in self.refusal.patterns)

    def text_for(self, category: Category, action: ConversationAction) -> str:
        """The text shown to the user when a category's action applies."""
        referral = next((one.referral for one in self.boundaries if one.name == category.boundary), "")
        by_action = {"emergency": self.emergency, "refuse": self.refusal.text, "refer": referral}
        return category.say or by_action.get(action, "")

    def _duplicate_names(self) -> Iterable[str]:
        for kind, names in (
            ("boundary", [one.name for one in self.boundaries]),
            ("category", [one.name for one in self.categories]),
            ("probe", [one.id for one in self.probes]),
        ):
            for name, count in Counter(names).items():
                if count > 1:
                    yield f"{kind} {name!r} is defined {count} times"

    def _dangling_references(self) -> Iterable[str]:
        """References to what does not exist, and categories without effect."""
        boundaries = {one.name for one in self.boundaries}
        labels = self.classifier.labels if self.classifier else {}
        for one in self.categories:
            if one.boundary and one.boundary not in boundaries:
                yield f"category {one.name!r} names boundary {one.boundary!r}; the policy has: {_listed(boundaries)}"
            if not one.patterns and not one.personal_data and one.name not in {v.category for v in labels.values()}:
                yield f"category {one.name!r} can never match: give it patterns, personal_data or a classifier label"
            if one.exempt and not one.personal_data:
                yield f"category {one.name!r} has exempt patterns but personal_data is not set"
            if not any((one.actions.rows, one.actions.prompt, one.actions.answer)):
                yield f"category {one.name!r} has no action: give actions for rows, prompt or answer"
        categories = {one.name for one in self.categories}
        for label, counts in labels.items():
            if counts.category not in categories:
                yield f"label {label!r} names category {counts.category!r}; the policy has: {_listed(categories)}"

    def _missing_texts(self) -> Iterable[str]:
        """Categories without a response, and boundaries that the system prompt lacks."""
        for one in self.categories:
            for action in dict.fromkeys((one.actions.prompt, one.actions.answer)):
                if action and not self.text_for(one, action):
                    yield f"category {one.name!r} has no response text: {_TEXT_SOURCES[action]}"
        for boundary in self.boundaries:
            if boundary.must_not not in self.system_prompt:
                yield f"boundary {boundary.name!r} is not in the system prompt: write {BOUNDARIES} into system_prompt"

    def _unrecognised_refusals(self) -> Iterable[str]:
        """Responses of the policy that would not count as refusals if the model learned to give them."""
        texts = {"refusal.text": self.refusal.text, "emergency": self.emergency}
        texts |= {f"boundary {one.name!r}'s referral": one.referral for one in self.boundaries}
        texts |= {
            f"category {one.name!r}'s say": one.say
            for one in self.categories
            if {one.actions.prompt, one.actions.answer} - {None, "allow-with-notice"}
        }
        for where, text in texts.items():
            if text and not self.is_refusal(text):
                yield f"{where} is not recognised as a refusal by refusal.patterns: it begins {text[:60]!r}"

    def _missing_probes(self) -> Iterable[str]:
        missing = sorted({"refuse", "leak", "benign"} - {one.kind for one in self.probes})
        if self.probes and missing:
            yield f"there is no probe of kind {', '.join(missing)}; a policy has probes of each kind, or none"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
