"""Which tasks of lm-evaluation-harness are run: found by their names, and their data read."""

import difflib
import logging
import random
from pathlib import Path
from typing import Any

import datasets
import numpy
import torch
from lm_eval.tasks import TaskManager
from lm_eval.tasks._factory import TaskFactory

from loraline import storage
from loraline.errors import ConfigurationError, DatasetError
from loraline.evaluation.config import EvaluateConfig
from loraline.identity.digests import cache_folder, digest_pairs

Tasks = dict[str, Any]
"""What the harness loads of tasks: `tasks`, `groups` and `group_map`."""

_SEED = 1234  # the harness' own default


def load_tasks(config: EvaluateConfig) -> Tasks:
    """Find the named tasks and read their data; tasks of one's own are found first, and need no network.

    Raises:
        ConfigurationError: there is no task of a name.
        DatasetError: the data of a task cannot be had.
        StorageError: the object store does not answer.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    manager = _manager(config.tasks, _folder(config.task_folder))
    seed()
    try:
        loaded: Tasks = dict(manager.load(list(config.tasks)))
    except Exception as error:  # whatever a task's data, on the Hub or in a file, and its own code may raise
        raise DatasetError(
            f"the tasks {', '.join(config.tasks)} cannot be loaded: {error}. Tasks of the harness fetch their data "
            "from the Hugging Face Hub; where that cannot be reached, give task files with data of your own in "
            "evaluation.task_folder"
        ) from error
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=_SEED)
    return loaded


def seed() -> None:
    """Begin all random draws anew: of the examples that are shown before a question, and in a task's own code."""
    random.seed(_SEED)
    numpy.random.seed(_SEED)
    torch.manual_seed(_SEED)


class _Factory(TaskFactory):
    """Makes tasks of task files, whose relative paths of data are below the file: the harness takes them from where
    the process was started, which is nowhere in particular on a cluster."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def _load_full_config(self, entry: Any, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        found: dict[str, Any] = super()._load_full_config(entry, overrides)
        told = found.get("dataset_kwargs") or {}
        if entry.yaml_path and entry.yaml_path.is_relative_to(self._folder) and "data_files" in told:
            found["dataset_kwargs"] = {**told, "data_files": _below(entry.yaml_path.parent, told["data_files"])}
        return found


def _below(folder: Path, files: Any) -> Any:
    """The paths below a folder, in the shape that they have: one, a list, or either by split."""
    if isinstance(files, dict):
        return {split: _below(folder, named) for split, named in files.items()}
    if isinstance(files, list):
        return [_below(folder, named) for named in files]
    return files if "://" in str(files) else str(folder / str(files))  # an absolute path stays what it is


def _folder(source: str) -> Path | None:
    """The folder of task files on this machine, fetched if need be; None where there is none."""
    if not source.startswith("s3://"):
        return Path(source).expanduser().resolve() if source else None
    listed = digest_pairs((item.key, f"{item.etag} {item.size}") for item in storage.list_objects(source))
    folder = cache_folder() / "tasks" / listed[:16]
    storage.download(source, folder)
    return folder


def _manager(names: list[str], folder: Path | None) -> TaskManager:
    """What knows the named tasks. The harness' own, ten seconds to list, are listed only where they are needed."""
    manager = TaskManager(include_path=folder, include_defaults=False) if folder else None
    if manager is None or not set(names) <= set(manager.all_tasks):
        manager = TaskManager(include_path=folder)
    if folder:
        manager._factory = _Factory(folder)
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown:
        near = difflib.get_close_matches(unknown[0], manager.all_tasks, n=3)
        where = f"neither in {folder} nor " if folder else "not "
        raise ConfigurationError(
            f"evaluation.tasks: there is no task {unknown[0]!r}, {where}in lm-evaluation-harness"
            + (f"; near it are {', '.join(near)}" if near else "")
            + (". A task file that is not valid YAML is passed over" if folder else "")
        )
    return manager
