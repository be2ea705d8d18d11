"""Where an adapter comes from: a PEFT folder on this machine, or a repository of the Hugging Face Hub."""

import json
from os import PathLike
from pathlib import Path

from loraline.errors import AdapterError, ModelLoadingError
from loraline.models.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from loraline.sources import hub


def find_adapter(source: str | PathLike[str]) -> Path:
    """Return an adapter's folder; one on the Hub is fetched into the Hub's cache.

    Args:
        source: a PEFT folder, or a Hub id (owner/adapter).

    Raises:
        AdapterError: there is none.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        if len(folder.parts) != 2 or str(source).startswith((".", "/", "~")):
            raise AdapterError(f"there is no adapter folder {folder}; give a folder that holds {ADAPTER_CONFIG}")
        try:
            folder = hub.download_model(str(source), "", (ADAPTER_CONFIG, ADAPTER_WEIGHTS), ())
        except ModelLoadingError as error:
            raise AdapterError(str(error)) from error
    missing = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise AdapterError(f"{source} holds no adapter: {' and '.join(missing)} missing")
    return folder


def base_of_adapter(folder: Path) -> tuple[str, str]:
    """The source and the revision of the base that an adapter says it was trained on; either may be empty.

    Raises:
        AdapterError: the adapter's configuration cannot be read.
    """
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        return str(config.get("base_model_name_or_path") or ""), str(config.get("revision") or "")
    except (OSError, ValueError, AttributeError) as error:
        raise AdapterError(f"{folder / ADAPTER_CONFIG} cannot be read: {error}") from error
