"""Every error that Loraline raises on purpose.

Each has a parent from the standard library, so that callers who know nothing of Loraline can catch it,
and takes one message, so that it survives pickling. A message says what happened, where, and what to do.
"""


class LoralineError(Exception):
    """The parent of all errors that Loraline raises on purpose."""


class ConfigurationError(LoralineError, ValueError):
    """A recipe, an override or an environment variable is not valid."""


class ModelLoadingError(LoralineError, RuntimeError):
    """A base model or its tokenizer cannot be fetched, fitted or loaded."""


class DatasetError(LoralineError, ValueError):
    """A dataset cannot be read, or its rows are not what the recipe allows."""


class TrainingError(LoralineError, RuntimeError):
    """Training cannot start or has gone wrong: empty mask, NaN loss, gradients that do not move."""


class AdapterError(LoralineError, RuntimeError):
    """An adapter cannot be loaded, does not belong to its base, or does not merge within tolerance."""


class ValidationError(LoralineError, ValueError):
    """A result cannot stand: evidence is missing, altered or contradicts itself."""


class StorageError(LoralineError, OSError):
    """The object store or the tracking server refuses a request or is away."""


class StorageAwayError(StorageError):
    """The object store does not answer now; the same request may succeed later."""


class ClusterError(LoralineError, ConnectionError):
    """The Kubeflow Pipelines server refuses a request, wants a login, or is not the one that was expected."""


class ClusterAwayError(ClusterError):
    """The Kubeflow Pipelines server does not answer now; the same request may succeed later."""
