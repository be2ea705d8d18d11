"""Run a policy's safety probes: generate answers to them, and classify the answers."""

from loraline.data.chat import encode_prompt
from loraline.errors import ConfigurationError
from loraline.evaluation.config import EvaluateConfig
from loraline.evaluation.generate import answer_prompts
from loraline.models.loaded import LoadedModel
from loraline.safety.policy import Policy
from loraline.safety.probes import ProbeReport, score_answers


def encode_probes(loaded: LoadedModel, policy: Policy) -> list[list[int]]:
    """Encode the prompt of each probe, with the policy's system prompt before it.

    Raises:
        ConfigurationError: a probe leaves no room for an answer.
        DatasetError: the chat template does not support a system message.
    """
    prompts = []
    for probe in policy.probes:
        messages = policy.with_system_prompt([{"role": "user", "content": probe.prompt}])
        prompt = encode_prompt(loaded.tokenizer, messages)
        if loaded.available_new_tokens(prompt, 1) < 1:
            raise ConfigurationError(
                f"probe {probe.id!r} of the policy {policy.name!r} has {len(prompt)} tokens with its system prompt, "
                f"and the model's context is {loaded.context_length}: shorten them, or take a model with a longer "
                "context"
            )
        prompts.append(prompt)
    return prompts


def run_probes(config: EvaluateConfig, loaded: LoadedModel, policy: Policy, prompts: list[list[int]]) -> ProbeReport:
    """Generate answers to the encoded probes, and classify them.

    The answers are the model's own: the policy's filters, which serving applies, are not.
    """
    answers = answer_prompts(config, loaded, prompts, "probes answered")
    return score_answers(policy, policy.probes, [answer.text for answer in answers])
