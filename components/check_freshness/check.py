"""Tell whether a model would be made from anything that its champion was not made from."""

from typing import Any, Literal

from components.shared import progress, registry, tracking
from components.shared.registry import CHAMPION

News = Literal["changed", "unchanged"]

# Tag of the model version -> what it holds, in words.
_FINGERPRINTS = {"recipe_digest": "the recipe", "data_digest": "the data", "base_digest": "the base model"}


def check(lineage: dict[str, Any]) -> News:
    """Compare what a run would begin with to the tags of the champion.

    Code is not compared: a new release is no reason to train a model anew. Where nothing changed, the pipeline's run
    ends here.

    Args:
        lineage: recipe and digests, as `resolve_recipe` hands them to the gate.

    Raises:
        StorageError: the registry is away.
    """
    name = lineage["recipe"]["registry"]["model_name"]
    tags = _champions_tags(name)
    now = {
        "recipe_digest": lineage["recipe_digest"],
        "data_digest": lineage["data"]["digest"],
        "base_digest": lineage["model"]["digest"],
    }
    if tags is None:
        progress.headline(f"{name} has no champion yet")
        return "changed"
    changed = [words for tag, words in _FINGERPRINTS.items() if tags.get(tag) != now[tag]]
    if not changed:
        progress.headline(f"nothing new: {name}@{CHAMPION} was made from the same recipe, data and base model")
        tracking.parent_run().close("FINISHED")  # no step follows that would end the pipeline's run
        return "unchanged"
    progress.headline(f"{' and '.join(changed)} changed since {name}@{CHAMPION}")
    return "changed"


def _champions_tags(name: str) -> dict[str, str] | None:
    """The champion's tags; None where there is no such model, or no champion of it."""
    client = tracking.connect()
    with registry.errors_named(f"looking for the registered model {name}"):
        if not client.search_registered_models(f"name = '{name}'"):
            return None
    champion = registry.version_with_alias(client, name, CHAMPION)
    return dict(champion.tags) if champion else None
