"""Which model a run is compared with: the champion of this moment."""

from loraline import tracking
from loraline.artifacts.evaluation import ChampionPin
from loraline.registry.tags import DIGEST_TAG
from loraline.registry.versions import find_champion


def pin_champion(model_name: str) -> ChampionPin | None:
    """The champion of a registered model, and where its files are; None where there is none.

    Raises:
        StorageError: the registry is away.
    """
    champion = find_champion(tracking.connect(), model_name)
    if champion is None:
        return None
    return ChampionPin(
        model_name=model_name,
        version=str(champion.version),
        url=str(champion.source),
        content_digest=champion.tags.get(DIGEST_TAG, ""),
    )
