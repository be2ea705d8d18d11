"""Tell whether a model would be made from anything that its champion was not made from."""

from typing import Literal

from loraline import progress, tracking
from loraline.evidence.lineage import Lineage
from loraline.registry.versions import CHAMPION, find_champion

News = Literal["changed", "unchanged"]

# Tag of the model version -> what it holds, in words.
_FINGERPRINTS = {
    "recipe_digest": "the recipe",
    "data_digest": "the data",
    "base_digest": "the base model",
    "policy_digest": "the safety policy",
}


def check(lineage: Lineage) -> News:
    """Compare what a run would begin with to the tags of the champion.

    Code is not compared: a new release is no reason to train a model anew. Where nothing changed, the pipeline's run
    ends here.

    Args:
        lineage: recipe and digests, as `resolve_recipe` hands them to the gate.

    Raises:
        StorageError: the registry is away.
    """
    name = lineage.model_name
    champion = find_champion(tracking.connect(), name)
    now = {
        "recipe_digest": lineage.recipe_digest,
        "data_digest": lineage.data.digest,
        "base_digest": lineage.model.digest,
        "policy_digest": lineage.policy.digest if lineage.policy else None,
    }
    if champion is None:
        progress.headline(f"{name} has no champion yet")
        return "changed"
    changed = [words for tag, words in _FINGERPRINTS.items() if champion.tags.get(tag) != now[tag]]
    if not changed:
        progress.headline(f"nothing new: {name}@{CHAMPION} was made from the same recipe, data and base model")
        tracking.parent_run().close("FINISHED")  # no step follows that would end the pipeline's run
        return "unchanged"
    progress.headline(f"{' and '.join(changed)} changed since {name}@{CHAMPION}")
    return "changed"
