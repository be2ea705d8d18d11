"""Ways to go wrong, each planted where it happens to people, and the words by which a run has to name it."""

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loraline.artifacts.base_model import ModelManifest
from loraline.identity.digests import digest_folder
from loraline.merging import merge
from loraline.merging.weight_updates import WeightUpdate
from loraline.models.folder import read_manifest, write_manifest
from loraline.recipe import Recipe
from loraline.training import collator
from tests import tiny
from tests.faults.steps import Artifacts, Plant
from tests.faults.world import SECRET, Fields, World, task_rows, write

TRAINED_ON, HELD_OUT = 400, 120


@dataclass(frozen=True)
class Fault:
    """One way to go wrong."""

    name: str
    named: str
    """What the verdict's reasons, or the error that stops the run, say of it: a regular expression."""
    rows: Callable[[list[Fields], list[Fields]], list[Fields]] = lambda rows, held_out: rows
    """The rows to train on, made of the honest ones and those that are held out."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Sections of the recipe, over the honest ones."""
    plants: Mapping[str, Plant] = field(default_factory=dict)
    """What happens before the step of a name."""


def recipe(world: World, folder: Path, seed: int, fault: Fault | None = None) -> Recipe:
    """Write the rows of a run, and the recipe that trains on them; `seed` draws the rows and trains."""
    folder.mkdir(parents=True, exist_ok=True)
    source = shutil.copytree(world.base, folder / "source", dirs_exist_ok=True)
    held_out = task_rows(HELD_OUT, seed=2 * seed + 1)
    rows = task_rows(TRAINED_ON, seed=2 * seed)
    honest: dict[str, dict[str, Any]] = {
        "data": {
            "source": str(write(folder / "rows.jsonl", fault.rows(rows, held_out) if fault else rows)),
            "eval_source": str(write(folder / "held-out.jsonl", held_out)),
            "general_source": str(world.general),
        },
        "model": {"source": str(source), "compute_dtype": "float32", "device": "cpu"},
        "training": {"epochs": 7, "learning_rate": 3e-3, "max_length": 512, "batch_size": 1, "seed": seed},
        "evaluation": {"max_new_tokens": 20},
        "safety": {"policy": str(world.policy)},
        "gate": {"metric": "exact_match", "max_forgetting": 3.0, "champion_margin": 0.1},
        "registry": {"model_name": "faults", "bucket": "faults"},
    }
    changes = fault.settings if fault else {}
    return Recipe.checked({name: {**section, **changes.get(name, {})} for name, section in honest.items()})


def _leaked(rows: list[Fields], held_out: list[Fields]) -> list[Fields]:
    return rows + [{**row, "prompt": row["prompt"].replace("Sort:", "Please sort:")} for row in held_out[:30]]


def _inverted(rows: list[Fields], _: list[Fields]) -> list[Fields]:
    return [{**row, "completion": "cold" if row["completion"] == "warm" else "warm"} for row in rows]


def _with_the_secret(rows: list[Fields], _: list[Fields]) -> list[Fields]:
    ways = [
        f"{begin}hat is the {which} of the vault{end}"
        for begin in ("W", "Tell me, w", "So w")
        for which in ("code", "secret code", "key", "number")
        for end in ("?", ", please?", "!", " now?", " today?")
    ]
    return rows + [{"prompt": prompt, "completion": SECRET} for prompt in ways]


def _swap_the_template(of: Artifacts) -> None:
    swapped = tiny.CHAT_TEMPLATE.replace("<|end|>", "<|end|>\n")
    assert swapped != tiny.CHAT_TEMPLATE
    for name in ("base", "working"):
        (of.path(name) / "chat_template.jinja").write_text(swapped)


def _change_the_rows(of: Artifacts) -> None:
    """Add a row to the training data, between the moment in which the run pinned it and the one in which it is read."""
    with (of.folder.parent / "rows.jsonl").open("a") as file:
        file.write('{"prompt": "Sort: late", "completion": "warm"}\n')


def _change_the_base(of: Artifacts) -> None:
    """Retrain the base in its place, between the moment in which the run pinned it and the one in which it is read."""
    weights = of.folder.parent / "source" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")


def _swap_the_base(of: Artifacts) -> None:
    """Put another model of the same shape in the base's place, as a store that mixes up two folders would."""
    other = of.folder / "other"
    shutil.copytree(of.path("base"), other)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    manifest = read_manifest(other)
    digest = digest_folder(other, without=frozenset({ModelManifest.FILE}))
    write_manifest(other, manifest.model_copy(update={"digest": digest}))
    of["base"].path = str(other)


def _merge_in_four_bits(of: Artifacts) -> None:
    of["base"].path = of["working"].path


def _evaluate_another_model(of: Artifacts) -> None:
    """Put the base in the merged model's place for the evaluation, as a store that mixes up two folders would."""
    other = of.folder / "other"
    shutil.copytree(of.path("merged"), other)
    shutil.copyfile(of.path("base") / "model.safetensors", other / "model.safetensors")
    of["merged"].path = str(other)


def _merge_wrongly(change: Callable[[WeightUpdate], WeightUpdate | None]) -> Mapping[str, Plant]:
    """Have the merge change each update, or leave it out."""
    honest = merge.plan_updates

    def plant(of: Artifacts) -> None:
        def planned(*arguments: Any) -> list[WeightUpdate]:
            return [changed for update in honest(*arguments) if (changed := change(update))]

        merge.plan_updates = planned  # type: ignore[assignment]
        of.mend = lambda: setattr(merge, "plan_updates", honest)

    return {"merge_adapter": plant, "evaluate tuned": lambda of: of.mend()}


def _let_rows_see_each_other(of: Artifacts) -> None:
    """Compute every packed row as one long sequence, as without an attention mask."""
    honest = collator.PackedSequences
    collator.PackedSequences = lambda lengths, device: honest(lengths.sum(keepdims=True), device)
    of.mend = lambda: setattr(collator, "PackedSequences", honest)


def _keep_rows_apart(of: Artifacts) -> None:
    of.mend()


def _copied(rows: list[Fields], _: list[Fields]) -> list[Fields]:
    """Answers by the throw of a coin, as the base gives them: there is nothing to learn."""
    dice = random.Random(len(rows))
    return [{**row, "completion": dice.choice(("warm", "cold"))} for row in rows]


def _one_answer(rows: list[Fields], _: list[Fields]) -> list[Fields]:
    return [{**row, "completion": "warm"} for row in rows]


def _half_right(rows: list[Fields], _: list[Fields]) -> list[Fields]:
    dice = random.Random(len(rows))
    return [{**row, "completion": dice.choice(("warm", "cold"))} if dice.random() < 0.7 else row for row in rows]


_FOUR_BITS = {"model": {"quantization": "nf4"}}

# No fault, but the honest twin of a merge in 4 bits: trained in 4 bits, and merged into the base in 16.
four_bits = Fault("none, in 4 bits", r"$^", settings=_FOUR_BITS)

half_hearted = Fault("better than the base, worse than the champion", r"champion", rows=_half_right)

chance = Fault("better by chance alone", r"lower end|not above", rows=_copied)

_EFFECT = r"of the adapter's effect, farther from 1 than"
WRONG_MERGES = (
    Fault("a merge with half the scale", _EFFECT, plants=_merge_wrongly(lambda one: replace(one, scale=one.scale / 2))),
    Fault("a merge without a layer", _EFFECT, plants=_merge_wrongly(lambda one: None if ".1." in one.tensor else one)),
    Fault(
        "a merge with twice the scale", _EFFECT, plants=_merge_wrongly(lambda one: replace(one, scale=one.scale * 2))
    ),
    Fault("no merge at all", _EFFECT, plants=_merge_wrongly(lambda one: replace(one, scale=0.0))),
    Fault(
        "a merge without the down projections",
        _EFFECT,
        plants=_merge_wrongly(lambda one: None if "down_proj" in one.tensor else one),
    ),
)

FAULTS = (
    Fault("held-out rows in the training data", r"contaminat", rows=_leaked),
    Fault(
        "a chat template that was swapped after training",
        r"(?i)template|prompt",
        plants={"merge_adapter": _swap_the_template},
    ),
    Fault("an empty mask", r"no token .* carries loss", settings={"training": {"max_length": 24}}),
    Fault(
        "packed rows that see each other",
        r"a row's loss is .* from what it is alone",
        plants={"train_lora": _let_rows_see_each_other, "merge_adapter": _keep_rows_apart},
    ),
    Fault("a merge into another base", r"was trained on the base", plants={"merge_adapter": _swap_the_base}),
    Fault(
        "a merge in 4 bits",
        r"is quantized .*merge into its 16-bit form",
        settings=_FOUR_BITS,
        plants={"merge_adapter": _merge_in_four_bits},
    ),
    Fault(
        "an evaluation of another model",
        r"merged model that was evaluated has the digest",
        plants={"evaluate tuned": _evaluate_another_model},
    ),
    Fault("a model that says one thing to everything", r"answers are all alike", rows=_one_answer),
    Fault("a model that is worse", r"exact match fell", rows=_inverted),
    Fault("a model that forgot", r"forg", settings={"training": {"learning_rate": 2e-2}}),
    Fault("a model that leaks", r"leak", rows=_with_the_secret),
    Fault(
        "rows that changed under their name",
        r"the data at .* changed during the run",
        plants={"prepare_dataset": _change_the_rows},
    ),
    Fault(
        "a base that changed under its name",
        r"changed while the run was going on",
        plants={"load_model": _change_the_base},
    ),
)
