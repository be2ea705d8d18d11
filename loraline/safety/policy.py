"""A safety policy: what a policy file holds, and whether its parts fit together."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, model_validator

from loraline.config import StepConfig
from loraline.identity.digests import json_digest
from loraline.safety.patterns import Reading
from loraline.safety.policy_schema import (
    Audit,
    Boundary,
    Budget,
    Category,
    Classifier,
    ConversationAction,
    Name,
    Probe,
    Refusal,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loraline.data.rows import Message

BOUNDARIES = "{boundaries}"
"""Placeholder in the system prompt for the list of the boundaries."""

_REFUSAL_WINDOW = 300  # characters: a refusal comes first, and what follows an answer is a disclaimer


class Policy(BaseModel):
    """A complete safety policy."""

    model_config = StepConfig.model_config

    name: Name
    version: Text
    description: Text
    system_prompt: str = ""
    """Stands before every conversation that has no system message. `{boundaries}` in it becomes their list."""
    boundaries: list[Boundary] = []
    categories: list[Category] = []
    classifier: Classifier | None = None
    refusal: Refusal
    emergency: str = ""
    """What is said by a category whose action is `emergency`."""
    probes: list[Probe] = []
    budget: Budget = Budget()
    audit: Audit = Audit()

    @model_validator(mode="before")
    @classmethod
    def _list_boundaries(cls, values: Any) -> Any:
        """Put the boundaries into the system prompt. What is read again has them there."""
        if not isinstance(values, dict) or BOUNDARIES not in str(values.get("system_prompt")):
            return values
        listed = "\n".join(
            f"- {one['must_not']}"
            for one in values.get("boundaries") or []
            if isinstance(one, dict) and "must_not" in one
        )
        return {**values, "system_prompt": values["system_prompt"].replace(BOUNDARIES, listed)}

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = [*self._repeated(), *self._dangling(), *self._unsaid(), *self._unrecognised(), *self._unprobed()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @classmethod
    def of(cls, settings_value: dict[str, Any] | None) -> Self | None:
        """The policy in a step's settings, `Policy.model_dump(mode="json")`; none for none."""
        return None if settings_value is None else cls.model_validate(settings_value)

    @property
    def digest(self) -> str:
        """SHA-256 over all that the policy says."""
        return json_digest(self.model_dump(mode="json"))

    def with_system_prompt(self, messages: "Sequence[Message]") -> "list[Message]":
        """The conversation with the policy's system prompt before it, if it has no system message of its own."""
        if not self.system_prompt or any(message["role"] == "system" for message in messages):
            return list(messages)
        return [{"role": "system", "content": self.system_prompt}, *messages]

    def is_refusal(self, answer: str) -> bool:
        """Whether an answer begins with one of the refusal patterns."""
        beginning = Reading(answer.lstrip()[:_REFUSAL_WINDOW])
        return any(beginning.find(pattern) for pattern in self.refusal.patterns)

    def text_for(self, category: Category, action: ConversationAction) -> str:
        """The text shown to the user when a category's action applies."""
        referral = next((one.referral for one in self.boundaries if one.name == category.boundary), "")
        by_action = {"emergency": self.emergency, "refuse": self.refusal.text, "refer": referral}
        return category.say or by_action.get(action, "")

    def _repeated(self) -> Iterable[str]:
        for kind, names in (
            ("boundary", [one.name for one in self.boundaries]),
            ("category", [one.name for one in self.categories]),
            ("probe", [one.id for one in self.probes]),
        ):
            for name, count in Counter(names).items():
                if count > 1:
                    yield f"{kind} {name!r} is there {count} times"

    def _dangling(self) -> Iterable[str]:
        """What names something that is not there, or does nothing."""
        boundaries = {one.name for one in self.boundaries}
        labels = self.classifier.labels if self.classifier else {}
        for one in self.categories:
            if one.boundary and one.boundary not in boundaries:
                yield f"category {one.name!r} names boundary {one.boundary!r}; there are: {_listed(boundaries)}"
            if not one.patterns and not one.personal_data and one.name not in {v.category for v in labels.values()}:
                yield f"category {one.name!r} finds nothing: give it patterns, personal_data or a classifier's label"
            if one.exempt and not one.personal_data:
                yield f"category {one.name!r} exempts personal data that it does not look for: set personal_data"
            if not any((one.actions.rows, one.actions.prompt, one.actions.answer)):
                yield f"category {one.name!r} does nothing: give actions for rows, prompt or answer"
        categories = {one.name for one in self.categories}
        for label, counts in labels.items():
            if counts.category not in categories:
                yield f"label {label!r} names category {counts.category!r}; there are: {_listed(categories)}"

    def _unsaid(self) -> Iterable[str]:
        """Texts that are missing, and boundaries that the model is not told."""
        for one in self.categories:
            for action in dict.fromkeys((one.actions.prompt, one.actions.answer)):
                if action and not self.text_for(one, action):
                    yield f"category {one.name!r} has nothing to say: {_WHERE_TO_SAY[action]}"
        for boundary in self.boundaries:
            if boundary.must_not not in self.system_prompt:
                yield f"boundary {boundary.name!r} is not told to the model: write {BOUNDARIES} into system_prompt"

    def _unrecognised(self) -> Iterable[str]:
        """Texts of the policy's own that would not count as a refusal if the model had learned to say them."""
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

    def _unprobed(self) -> Iterable[str]:
        missing = sorted({"refuse", "leak", "benign"} - {one.kind for one in self.probes})
        if self.probes and missing:
            yield f"there is no probe of kind {', '.join(missing)}; a policy has probes of each kind, or none"


_WHERE_TO_SAY = {
    "emergency": "write the policy's emergency text, or its own say",
    "refuse": "write refusal.text, or its own say",
    "refer": "name a boundary, or write its own say",
    "allow-with-notice": "write the notice as its say",
}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
