"""What may be set about evaluation."""

import importlib.util
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from loraline.config import StepConfig
from loraline.errors import ConfigurationError


class EvaluateConfig(StepConfig):
    """How many examples are scored, how answers are generated, and which tasks are run beside them."""

    max_examples: int = Field(default=500, ge=0)
    """Examples scored, those with the lowest content hash, so that adding data moves few. 0: all."""
    batch_size: int = Field(default=32, ge=1)
    """Examples generated side by side."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest answer, in tokens."""
    tasks: list[str] = Field(default=[])
    """Tasks of lm-evaluation-harness, such as ["hellaswag"]: what the model could do before and is to keep."""
    task_folder: str = ""
    """Folder, or `s3://bucket/prefix`, of task files of your own, with their data beside them. Code in them is run."""
    task_examples: int = Field(default=100, ge=0)
    """Examples of each task, its first ones. 0: all."""

    @model_validator(mode="after")
    def _name_a_task(self) -> Self:
        if self.task_folder and not self.tasks:
            raise ValueError(f"task_folder is {self.task_folder!r}, but tasks names none: name those to run")
        return self


def check_task_folder(config: EvaluateConfig) -> None:
    """See that the folder of task files is there. One in the store is not looked at.

    Raises:
        ConfigurationError: there is no such folder here.
    """
    folder = config.task_folder
    if folder and not folder.startswith("s3://") and not Path(folder).expanduser().is_dir():
        raise ConfigurationError(
            f"evaluation.task_folder is {folder!r}, and there is no such folder here. A step on a cluster sees none of "
            "your machine's folders: put the files into the object store, and write s3://bucket/prefix"
        )


def check_harness(config: EvaluateConfig) -> None:
    """See that what runs the tasks is installed here, where tasks are named.

    Raises:
        ConfigurationError: it is not.
    """
    if config.tasks and importlib.util.find_spec("lm_eval") is None:
        raise ConfigurationError(
            f"evaluation.tasks names {', '.join(config.tasks)}, which lm-evaluation-harness runs, and it is not "
            "installed here: pip install 'loraline[harness]', or set evaluation.tasks=[]"
        )
