"""A text classification model that finds a policy's categories, in addition to the patterns."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from loraline.errors import ConfigurationError, ModelLoadingError
from loraline.identity.digests import digest_folder
from loraline.safety.policy_schema import Classifier

_OVERLAP = 32  # tokens shared by adjacent windows of a long text, so that no phrase is only seen cut
_MAX_WINDOW = 512  # tokens: the context of most encoders


def categories(classifier: Classifier | None, text: str, wanted: set[str]) -> set[str]:
    """The wanted categories that a classifier finds in a text; empty without a classifier.

    Raises:
        ConfigurationError: the model lacks a label.
        ModelLoadingError: the model cannot be loaded, or torch and transformers are not installed.
    """
    if classifier is None or not wanted & {label.category for label in classifier.labels.values()}:
        return set()
    probabilities = _load(classifier.model, classifier.revision, tuple(classifier.labels)).probabilities(text)
    return {
        label.category
        for name, label in classifier.labels.items()
        if label.category in wanted and probabilities[name] >= label.threshold
    }


class _LoadedClassifier:
    """A classifier in memory."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model.eval(), tokenizer
        limit = getattr(model.config, "max_position_embeddings", None) or _MAX_WINDOW
        self._length = min(limit, tokenizer.model_max_length, _MAX_WINDOW)
        self.labels = {str(name): int(number) for number, name in model.config.id2label.items()}
        self._is_multi_label = model.config.problem_type == "multi_label_classification"

    def probabilities(self, text: str) -> dict[str, float]:
        """The maximum over all windows of each label's probability, so that other text dilutes nothing."""
        import torch

        windows = self._tokenizer(
            text,
            truncation=True,
            max_length=self._length,
            stride=min(_OVERLAP, self._length // 4),
            return_overflowing_tokens=True,
        )["input_ids"]
        highest = torch.zeros(len(self.labels))
        with torch.inference_mode():
            for window in windows:
                logits = self._model(input_ids=torch.tensor([window])).logits[0].float()
                highest = torch.maximum(highest, logits.sigmoid() if self._is_multi_label else logits.softmax(-1))
        return {name: float(highest[number]) for name, number in self.labels.items()}


@lru_cache(maxsize=2)
def _load(name: str, revision: str, labels: tuple[str, ...]) -> _LoadedClassifier:
    try:
        import torch  # noqa: F401
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as error:
        raise ModelLoadingError(
            f"the policy's classifier {name!r} needs torch and transformers, which are not installed here ({error}): "
            "install loraline[train], or remove the classifier from the policy"
        ) from error
    folder = Path(name)
    if folder.is_absolute() and not folder.is_dir():
        raise ModelLoadingError(
            f"the policy's classifier is the folder {name} on the machine that read the policy, and does not exist "
            "on this one: put the classifier on the Hub, or into this machine's image, and use that name"
        )
    if folder.is_dir() and revision and (digest := digest_folder(folder)) != revision:
        raise ModelLoadingError(f"the policy's classifier in {name} has digest {digest}; the policy expects {revision}")
    where = {} if folder.is_dir() else {"revision": revision}
    try:
        model = AutoModelForSequenceClassification.from_pretrained(name, use_safetensors=True, **where)
        tokenizer = AutoTokenizer.from_pretrained(name, **where)
    except (OSError, ValueError, KeyError) as error:
        raise ModelLoadingError(f"the policy's classifier {name!r} cannot be loaded: {error}") from error
    loaded = _LoadedClassifier(model, tokenizer)
    if unknown := sorted(set(labels) - set(loaded.labels)):
        raise ConfigurationError(
            f"the policy's classifier {name!r} has no label {', '.join(unknown)}; it has: {', '.join(loaded.labels)}"
        )
    return loaded
