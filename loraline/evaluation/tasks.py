"""Load tasks of lm-evaluation-harness and their data: those that it ships, and task files of the user's own."""

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
"""The harness's own structure of loaded tasks: `tasks`, `groups` and `group_map`."""

_SEED = 1234  # the harness's own default


def load_tasks(config: EvaluateConfig) -> Tasks:
    """Load the named tasks and their data. The user's own tasks take precedence, and need no network.

    Raises:
        ConfigurationError: there is no task of that name.
        DatasetError: the data of a task cannot be loaded.
        StorageError: the object store does not answer.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    manager = _task_manager(config.tasks, _task_folder(config.task_folder))
    seed_everything()
    try:
        loaded: Tasks = dict(manager.load(list(config.tasks)))
    except Exception as error:  # a task's data, on the Hub or in a file, and its own code may raise anything
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


def seed_everything() -> None:
    """Seed the random generators that few-shot sampling and a task's own code use."""
    random.seed(_SEED)
    numpy.random.seed(_SEED)
    torch.manual_seed(_SEED)


class _RelativeDataTaskFactory(TaskFactory):
    """Resolves relative `data_files` of a task file against its folder.

    The harness resolves them against the working directory, which has no meaning on a cluster.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def _load_full_config(self, entry: Any, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        config: dict[str, Any] = super()._load_full_config(entry, overrides)
        kwargs = config.get("dataset_kwargs") or {}
        if entry.yaml_path and entry.yaml_path.is_relative_to(self._folder) and "data_files" in kwargs:
            data_files = _resolve_paths(entry.yaml_path.parent, kwargs["data_files"])
            config["dataset_kwargs"] = {**kwargs, "data_files": data_files}
        return config


def _resolve_paths(folder: Path, files: Any) -> Any:
    """Resolve a path, a list of paths, or a dict of either by split against a folder; URLs and absolute paths stay."""
    if isinstance(files, dict):
        return {split: _resolve_paths(folder, paths) for split, paths in files.items()}
    if isinstance(files, list):
        return [_resolve_paths(folder, path) for path in files]
    return files if "://" in str(files) else str(folder / str(files))


def _task_folder(source: str) -> Path | None:
    """The local folder of task files, downloaded from the object store if it is there; None where none is set."""
    if not source.startswith("s3://"):
        return Path(source).expanduser().resolve() if source else None
    digest = digest_pairs((item.key, f"{item.etag} {item.size}") for item in storage.list_objects(source))
    folder = cache_folder() / "tasks" / digest[:16]
    storage.download(source, folder)
    return folder


def _task_manager(names: list[str], folder: Path | None) -> TaskManager:
    """Index the available tasks. The harness's own take ten seconds, and are indexed only where they are needed."""
    manager = TaskManager(include_path=folder, include_defaults=False) if folder else None
    if manager is None or not set(names) <= set(manager.all_tasks):
        manager = TaskManager(include_path=folder)
    if folder:
        manager._factory = _RelativeDataTaskFactory(folder)
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown:
        similar = difflib.get_close_matches(unknown[0], manager.all_tasks, n=3)
        where = f"neither in {folder} nor " if folder else "not "
        raise ConfigurationError(
            f"evaluation.tasks: there is no task {unknown[0]!r}, {where}in lm-evaluation-harness"
            + (f"; similar names: {', '.join(similar)}" if similar else "")
            + (". A task file that is not valid YAML is ignored" if folder else "")
        )
    return manager
