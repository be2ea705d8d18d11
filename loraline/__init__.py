"""Loraline: fine-tune language models with LoRA and QLoRA, from five lines of Python to a Kubeflow pipeline.

>>> from loraline import FineTune
>>> job = FineTune("HuggingFaceTB/SmolLM2-135M-Instruct", "my.jsonl")
>>> job.train(rank=16)
>>> print(job.evaluate())
>>> job.merge("out")
>>> print(job.generate("Hello"))

`FineTune` takes a base model or a recipe, and rows: a path or an address, a list, a datasets.Dataset, a DataFrame, or
several sources:

>>> FineTune("quickstart", [DataSource(source="my.jsonl", weight=2), DataSource(source="hf://owner/dataset@train[:1%]")])

Without a network, a GPU or data, `FineTune("quickstart")` learns to write dates in words:

>>> job = FineTune("quickstart")
>>> job.train(max_steps=200)
>>> job.evaluate(max_examples=100)
>>> job.report().save("page.html")

Phases can be called by themselves: evaluate a base, or merge an adapter that was trained elsewhere.

>>> FineTune("HuggingFaceTB/SmolLM2-135M-Instruct").evaluate("held_out.jsonl", max_examples=100)
>>> FineTune("HuggingFaceTB/SmolLM2-135M-Instruct").merge("out", adapter="somebody/adapter")

Settings have the names that they have in a recipe (docs/parameters.md). Importing this package loads no torch.
"""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraline.data.source_config import DataSource as DataSource
    from loraline.errors import AdapterError as AdapterError
    from loraline.errors import ConfigurationError as ConfigurationError
    from loraline.errors import DatasetError as DatasetError
    from loraline.errors import LoralineError as LoralineError
    from loraline.errors import ModelLoadingError as ModelLoadingError
    from loraline.errors import StorageError as StorageError
    from loraline.errors import TrainingError as TrainingError
    from loraline.errors import ValidationError as ValidationError
    from loraline.finetune.job import FineTune as FineTune
    from loraline.finetune.results import EvaluationResult as EvaluationResult
    from loraline.finetune.results import MergeResult as MergeResult
    from loraline.finetune.results import PreparedDataset as PreparedDataset
    from loraline.finetune.results import ReportPage as ReportPage
    from loraline.finetune.results import TrainResult as TrainResult
    from loraline.recipe import Recipe as Recipe
    from loraline.recipe_file import load_recipe as load_recipe
    from loraline.recipe_file import shipped_recipes as shipped_recipes

_MODULES = {
    "AdapterError": "loraline.errors",
    "ConfigurationError": "loraline.errors",
    "DataSource": "loraline.data.source_config",
    "DatasetError": "loraline.errors",
    "EvaluationResult": "loraline.finetune.results",
    "FineTune": "loraline.finetune.job",
    "LoralineError": "loraline.errors",
    "MergeResult": "loraline.finetune.results",
    "ModelLoadingError": "loraline.errors",
    "PreparedDataset": "loraline.finetune.results",
    "Recipe": "loraline.recipe",
    "ReportPage": "loraline.finetune.results",
    "StorageError": "loraline.errors",
    "TrainResult": "loraline.finetune.results",
    "TrainingError": "loraline.errors",
    "ValidationError": "loraline.errors",
    "load_recipe": "loraline.recipe_file",
    "shipped_recipes": "loraline.recipe_file",
}
"""Each public name, and the module that is imported when it is first asked for."""

__all__ = [*_MODULES]  # noqa: PLE0604  # ruff does not look into the mapping


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("loraline")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
