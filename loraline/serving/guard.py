"""A policy in front of a model and behind it, and the audit trail beside it. Needs no torch."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from loraline.artifacts.dataset_files import Message
from loraline.safety import ALLOWED, Decision, Policy, check_answer, check_prompt
from loraline.serving.audit import AuditTrail

Generate = Callable[[list[Message]], Iterator[str]]


class Guard:
    """Lets prompts to a model and answers from it, as far as a policy allows, and keeps the trail.

    With a policy, an answer is held back until it is there whole. What makes it one that may not be shown can be
    its last sentence, and what was shown by then cannot be taken back.

    The trail gets a record `prompt` before the model is asked and a record `answer` before the answer is shown
    (without a policy, where the answer streams: after it). Where the trail cannot be written nothing is shown.
    A prompt that was allowed and has no answer was never answered.
    """

    def __init__(self, policy: Policy | None, trail: AuditTrail | None = None, model: dict[str, str] | None = None):
        """Put a guard up.

        Args:
            policy: none lets all pass.
            trail: where to record what was decided.
            model: source, version and digest of the model, for the trail.
        """
        self._policy = policy
        self._trail = trail
        self._model = model or {}
        self.decision = ALLOWED
        """The last one: on the prompt if that was not allowed, else on the answer."""
        self.asked = False
        """Whether the model was asked, the last time."""

    def answer(self, messages: list[Message], generate: Generate) -> Iterator[str]:
        """Answer a conversation by the model, or in its place.

        Args:
            messages: the turns so far.
            generate: asks the model; gets the conversation with the policy's system prompt.

        Raises:
            StorageError, ValidationError: the trail cannot be written.
        """
        exchange = uuid.uuid4().hex
        policy = self._policy
        if policy is None:
            self._record("prompt", exchange, ALLOWED, messages)
            return self._streamed(exchange, messages, generate(messages))
        messages = policy.with_system_prompt(messages)
        self.decision = check_prompt(policy, messages)
        self.asked = self.decision.allowed
        self._record("prompt", exchange, self.decision, messages)
        if not self.asked:
            return iter([self.decision.text])
        return self._held_back(policy, exchange, messages, generate(messages))

    def _held_back(
        self, policy: Policy, exchange: str, messages: list[Message], pieces: Iterator[str]
    ) -> Iterator[str]:
        notice = self.decision.text
        text = "".join(pieces)
        self.decision = check_answer(policy, messages, text)
        self._record("answer", exchange, self.decision, messages, text)
        if not self.decision.allowed:
            yield self.decision.text
            return
        notices = dict.fromkeys(one.strip() for one in (notice, self.decision.text) if one)
        yield "\n\n".join([text, *notices])

    def _streamed(self, exchange: str, messages: list[Message], pieces: Iterator[str]) -> Iterator[str]:
        shown = []
        try:
            for piece in pieces:
                shown.append(piece)
                yield piece
        finally:  # also where nobody listens any more: what was shown was shown
            self._record("answer", exchange, ALLOWED, messages, "".join(shown))

    def _record(
        self, event: str, exchange: str, decision: Decision, messages: list[Message], answer: str | None = None
    ) -> None:
        if self._trail is None:
            return
        policy = self._policy
        prompt = json.dumps([[turn["role"], turn["content"]] for turn in messages])
        fields: dict[str, Any] = {
            "exchange": exchange,
            "model": self._model,
            "policy": policy and {"name": policy.name, "version": policy.version, "digest": policy.digest},
            "decision": decision.action,
            "category": decision.category,
            "key": self._trail.key_id,
            "prompt": self._trail.digest(prompt),
        }
        if answer is not None:
            fields["answer"] = self._trail.digest(answer)
        if policy and policy.audit.raw_text:
            fields |= {"prompt_text": messages} | ({} if answer is None else {"answer_text": answer})
        self._trail.append(event, **fields)
