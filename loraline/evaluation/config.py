"""Settings of the evaluation."""

import importlib.util
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from loraline.config import StepConfig
from loraline.errors import ConfigurationError


class EvaluateConfig(StepConfig):
    """How many examples are scored, how answers are generated, and which benchmark tasks are run."""

    max_examples: int = Field(default=500, ge=0)
    """Held-out examples scored, those with the lowest content hash, so that adding data changes few. 0: all."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts in a generation batch."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest answer, in tokens."""
    tasks: list[str] = Field(default=[])
    """Tasks of lm-evaluation-harness, such as ["hellaswag"], to compare general abilities before and after training."""
    task_folder: str = ""
    """Folder, or `s3://bucket/prefix`, of your own task files and their data. Code in them is run."""
    task_examples: int = Field(default=1000, ge=0)
    """Examples of each task, its first ones. 0: all. Of models that lost nothing, where 8% of the answers differ,
    gate.max_task_drop = 0.05 lets pass nine of ten with 500 examples, nearly all with 1000, hardly any with 100."""

    @model_validator(mode="after")
    def _require_tasks(self) -> Self:
        if self.task_folder and not self.tasks:
            raise ValueError(f"task_folder is {self.task_folder!r}, but tasks is empty: name the tasks to run")
        return self


def check_task_folder(config: EvaluateConfig) -> None:
    """Check that a local folder of task files exists. One in the object store is not looked at.

    Raises:
        ConfigurationError: there is no such folder.
    """
    folder = config.task_folder
    if folder and not folder.startswith("s3://") and not Path(folder).expanduser().is_dir():
        raise ConfigurationError(
            f"evaluation.task_folder is {folder!r}, and there is no such folder here. A step on a cluster cannot read "
            "the folders of your machine: upload the files to the object store, and write s3://bucket/prefix"
        )


def check_harness(config: EvaluateConfig) -> None:
    """Check that lm-evaluation-harness is installed where the recipe names tasks.

    Raises:
        ConfigurationError: it is not.
    """
    if config.tasks and importlib.util.find_spec("lm_eval") is None:
        raise ConfigurationError(
            f"evaluation.tasks names {', '.join(config.tasks)}, and lm-evaluation-harness, which runs them, is not "
            "installed here: pip install 'loraline[harness]', or set evaluation.tasks=[]"
        )
