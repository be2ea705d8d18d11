"""The pipeline's steps one after another in this process, with a place before each where a fault can be planted."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

from components.evaluate_model.component import evaluate_model
from components.gate.component import gate
from components.load_model.component import load_model
from components.merge_adapter.component import merge_adapter
from components.prepare_dataset.component import prepare_dataset
from components.recipe import Recipe
from components.register_model.component import register_model
from components.resolve_recipe.resolve import resolve
from components.shared import tracking
from components.shared.evidence import Evidence, read_evidence
from components.train_lora.component import train_lora


class Artifacts:
    """What the steps wrote, by name. A fault may change what lies there, or where it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._named: dict[str, SimpleNamespace] = {}
        self.mend: Callable[[], None] = lambda: None
        """Undoes what a fault did to the code."""

    def __getitem__(self, name: str) -> SimpleNamespace:
        if name not in self._named:
            path = self.folder / name
            self._named[name] = SimpleNamespace(path=str(path), uri=str(path), metadata={}, log_metric=lambda *_: None)
        return self._named[name]

    def path(self, name: str) -> Path:
        """Where an artifact lies."""
        return Path(self[name].path)


Plant = Callable[[Artifacts], None]


def fine_tune(recipe: Recipe, folder: Path, plants: Mapping[str, Plant] | None = None) -> Evidence:
    """Carry out the pipeline up to the registry, as `pipelines/finetune.py` wires it; gives the evidence.

    Args:
        recipe: the recipe.
        folder: where the steps write; it is made.
        plants: what to do before the step of a name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings, of = resolve(recipe), Artifacts(folder)
    common = {"dataset": of["dataset"]}
    steps: dict[str, Callable[[], object]] = {
        "prepare_dataset": lambda: prepare_dataset.python_func(
            settings.prepare_dataset, dataset=of["dataset"], page=of["page"]
        ),
        "load_model": lambda: load_model.python_func(settings.load_model, base=of["base"], working=of["working"]),
        "evaluate base": lambda: evaluate_model.python_func(
            settings.evaluate_model,
            model=of["working"],
            evaluation=of["base evaluation"],
            metrics=of["base metrics"],
            **common,
        ),
        "evaluate champion": lambda: evaluate_model.python_func(
            settings.evaluate_champion,
            model=of["working"],
            evaluation=of["champion evaluation"],
            metrics=of["champion metrics"],
            **common,
        ),
        "train_lora": lambda: train_lora.python_func(
            settings.train_lora, model=of["working"], adapter=of["adapter"], **common
        ),
        "evaluate tuned": lambda: evaluate_model.python_func(
            settings.evaluate_model,
            model=of["working"],
            evaluation=of["tuned evaluation"],
            metrics=of["tuned metrics"],
            adapter=of["adapter"],
            **common,
        ),
        "merge_adapter": lambda: merge_adapter.python_func(
            settings.merge_adapter,
            base=of["base"],
            adapter=of["adapter"],
            merged=of["merged"],
            parity=of["parity"],
            **common,
        ),
        "gate": lambda: gate.python_func(
            settings.gate,
            base=of["base evaluation"],
            tuned=of["tuned evaluation"],
            champion=of["champion evaluation"],
            adapter=of["adapter"],
            parity=of["parity"],
            evidence=of["evidence"],
            **common,
        ),
    }
    for name, step in steps.items():
        if plants and name in plants:
            plants[name](of)
        if name == "evaluate base" and of["working"].uri == of["base"].uri:
            of["working"].path = of["base"].path
        step()
    return read_evidence(of.path("evidence"))


def register(recipe: Recipe, folder: Path) -> None:
    """Put what a run made into the store and the registry."""
    of = Artifacts(folder)
    register_model.python_func(
        resolve(recipe).register_model,
        adapter=of["adapter"],
        merged=of["merged"],
        evidence=of["evidence"],
        registration=of["registration"],
    )
    tracking.parent_run().close("FINISHED")
