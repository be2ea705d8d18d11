"""The Hugging Face Hub: download models, resolve revisions of datasets, explain what went wrong."""

from pathlib import Path

from loraline.errors import DatasetError, ModelLoadingError


def download_model(repository: str, revision: str, patterns: tuple[str, ...], ignored: tuple[str, ...]) -> Path:
    """Download a model's files into the Hub's cache, and return their folder there, which is named after the commit.

    Without a network, the files of that revision come from the cache.

    Raises:
        ModelLoadingError: the model cannot be downloaded.
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
                ignore_patterns=list(ignored),
            )
        )
    except (HTTPError, HFValidationError, OSError) as error:
        raise ModelLoadingError(_explain(f"the model {repository!r}", revision, error)) from error


def weight_headers(repository: str, revision: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of each tensor in a model's safetensors files, by name. Reads their headers alone.

    Raises:
        ModelLoadingError: the model has no safetensors files.
        OSError: the Hub does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, NotASafetensorsRepoError, SafetensorsParsingError
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        metadata = HfApi().get_safetensors_metadata(repository, revision=revision or None)
    except NotASafetensorsRepoError as error:
        raise ModelLoadingError(
            f"{repository} has no safetensors weights (.bin and .pt files are not accepted, because reading them can "
            "run code): load the model once where you trust it, and save it with save_pretrained"
        ) from error
    except (HTTPError, SafetensorsParsingError) as error:
        raise OSError(_explain(f"the model {repository!r}", revision, error)) from error
    files = metadata.files_metadata.values()
    return {name: (tuple(t.shape), t.dtype) for file in files for name, t in file.tensors.items()}


def dataset_commit(repository: str, revision: str) -> str:
    """Resolve a dataset's revision to the commit that it points to now.

    Raises:
        DatasetError: the Hub has no such dataset or revision, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        return str(HfApi().dataset_info(repository, revision=revision or None).sha)
    except (HTTPError, HFValidationError, OSError) as error:
        raise DatasetError(_explain(f"the dataset {repository!r}", revision, error)) from error


def _explain(repository: str, revision: str, error: Exception) -> str:
    reason = " ".join(str(error).split())  # the Hub's messages have many lines
    at = f" at revision {revision!r}" if revision else ""
    return (
        f"{repository}{at} cannot be fetched from the Hugging Face Hub: {reason}. Check the spelling and the network; "
        "a gated or private one needs HF_TOKEN in the environment and its licence accepted on its page; without a "
        "network, give a local folder or an s3:// address"
    )
