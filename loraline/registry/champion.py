"""Which model a run has to hold its own against: the champion of this moment."""

from loraline import tracking
from loraline.registry.tags import DIGEST_TAG
from loraline.registry.versions import find_champion


def pin_champion(model_name: str) -> dict[str, str] | None:
    """The champion of a registered model, and where its files are; None where there is none.

    Keys: `model_name`, `version`, `url` (the folder in the object store), `content_digest` and `base_digest` (of the
    base's files, as its manifest has it).

    Raises:
        StorageError: the registry is away.
    """
    champion = find_champion(tracking.connect(), model_name)
    if champion is None:
        return None
    return {
        "model_name": model_name,
        "version": str(champion.version),
        "url": str(champion.source),
        "content_digest": champion.tags.get(DIGEST_TAG, ""),
        "base_digest": champion.tags.get("base_files_digest", ""),
    }
