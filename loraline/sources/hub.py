"""The Hugging Face Hub: files of models, commits of datasets, and what to do when it refuses."""

from pathlib import Path

from loraline.errors import DatasetError, ModelLoadingError


def model_files(repository: str, revision: str, patterns: tuple[str, ...], without: tuple[str, ...]) -> Path:
    """Bring a model's files into the Hub's cache, and give their folder there: it is named after the commit.

    Without a network, what the cache holds of that revision is taken.

    Raises:
        ModelLoadingError: the model cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=list(patterns),
                ignore_patterns=list(without),
            )
        )
    except (HTTPError, HFValidationError, OSError) as error:
        raise ModelLoadingError(_refusal(f"the model {repository!r}", revision, error)) from error


def dataset_commit(repository: str, revision: str) -> str:
    """Name the commit that a dataset's revision stands for now.

    Raises:
        DatasetError: the Hub does not know it, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        return str(HfApi().dataset_info(repository, revision=revision or None).sha)
    except (HTTPError, HFValidationError, OSError) as error:
        raise DatasetError(_refusal(f"the dataset {repository!r}", revision, error)) from error


def _refusal(what: str, revision: str, error: Exception) -> str:
    reason = " ".join(str(error).split())  # the Hub's messages have many lines
    at = f" at revision {revision!r}" if revision else ""
    return (
        f"{what}{at} cannot be had from the Hugging Face Hub: {reason}. Check the spelling and the network; a "
        "gated or private one needs HF_TOKEN in the environment and its licence accepted on its page; without "
        "a network, give a local folder or an s3:// address"
    )
