"""The pipeline's steps one after another in this process, with a place before each where a fault can be planted."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

from components.evaluate_model.component import evaluate_model
from components.gate.component import gate
from components.load_model.component import load_model
from components.merge_adapter.component import merge_adapter
from components.prepare_dataset.component import prepare_dataset
from components.register_model.component import register_model
from components.train_lora.component import train_lora
from loraline import tracking
from loraline.evidence.schema import Evidence
from loraline.recipe import Recipe
from loraline.resolve import Settings, resolve


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
    of = Artifacts(folder)
    for name, step in _steps(resolve(recipe), of).items():
        if plants and name in plants:
            plants[name](of)
        step()
        if name == "load_model" and of["working"].uri == of["base"].uri:
            of["working"].path = of["base"].path
    return Evidence.load(of.path("evidence"))


def _steps(settings: Settings, of: Artifacts) -> dict[str, Callable[[], object]]:
    """The steps by name, in their order. What they read is looked up when they run, after a fault has changed it."""

    def evaluate(which: str, step_settings: str, model: str | None) -> None:
        evaluate_model.python_func(
            step_settings,
            of["dataset"],
            of[f"{which} evaluation"],
            of[f"{which} metrics"],
            model=of[model] if model else None,
        )

    def run_gate() -> str:
        sides = {which: of[f"{which} evaluation"] for which in ("base", "tuned", "champion")}
        folders = {name: of[name] for name in ("dataset", "adapter", "parity", "evidence")}
        return str(gate.python_func(settings.gate, **sides, **folders))

    return {
        "prepare_dataset": lambda: prepare_dataset.python_func(settings.prepare_dataset, of["dataset"], of["page"]),
        "load_model": lambda: load_model.python_func(settings.load_model, of["base"], of["working"]),
        "evaluate base": lambda: evaluate("base", settings.evaluate_base, "base"),
        "evaluate champion": lambda: evaluate("champion", settings.evaluate_champion, None),
        "train_lora": lambda: train_lora.python_func(settings.train_lora, of["working"], of["dataset"], of["adapter"]),
        "merge_adapter": lambda: merge_adapter.python_func(
            settings.merge_adapter, of["base"], of["adapter"], of["dataset"], of["merged"], of["parity"]
        ),
        "evaluate tuned": lambda: evaluate("tuned", settings.evaluate_tuned, "merged"),
        "gate": run_gate,
    }


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
