"""A base's config.json as it stands, read without transformers and without the Hub's client."""

import json
import os
from pathlib import Path
from typing import Any

import urllib3

from loraline import storage
from loraline.errors import ModelLoadingError
from loraline.sources.model import parse_model_source

_NAME = "config.json"
_TIMEOUT = urllib3.Timeout(connect=5, read=20)


def read_settings(path: Path) -> dict[str, Any]:
    """Parse a config.json.

    Raises:
        ModelLoadingError: it is no JSON object.
    """
    return _parse(path.read_bytes(), str(path))


def fetch_settings(source: str, revision: str) -> dict[str, Any]:
    """Read the config.json of a base.

    Raises:
        ConfigurationError: the source is none.
        ModelLoadingError: it has no config.json, or cannot be read from here.
        StorageError: the object store does not answer.
    """
    parsed = parse_model_source(source)
    if parsed.gguf or parsed.kind == "registry":
        raise ModelLoadingError(f"{source} has no config.json that this machine could read")
    if parsed.kind == "s3":
        return _parse(b"".join(storage.read(f"{parsed.location}/{_NAME}")), source)
    if parsed.kind == "folder":
        path = Path(parsed.location, _NAME)
        if not path.exists():
            raise ModelLoadingError(f"there is no {path} on this machine")
        return read_settings(path)
    return _parse(_get(f"{_hub()}/{parsed.location}/resolve/{revision or 'main'}/{_NAME}"), source)


def _hub() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _get(url: str) -> bytes:
    token = os.environ.get("HF_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        answer = urllib3.request("GET", url, headers=headers, timeout=_TIMEOUT, retries=urllib3.Retry(2))
    except urllib3.exceptions.HTTPError as error:
        raise ModelLoadingError(f"{url} cannot be read: {error}") from error
    if answer.status != 200:
        raise ModelLoadingError(f"{url} answers {answer.status}; a gated or private model needs HF_TOKEN")
    return answer.data


def _parse(content: bytes, where: str) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError as error:
        raise ModelLoadingError(f"the config.json of {where} is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ModelLoadingError(f"the config.json of {where} holds no settings")
    return parsed
