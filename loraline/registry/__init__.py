"""What MLflow's model registry holds of a model: versions, their tags and aliases, and the files behind them."""

from loraline.registry.files import CARD, EVIDENCE_PATH, FILE_LIST, REGISTERED, Advance, FileList, StoredFile
from loraline.registry.tags import DIGEST_TAG, RUN_TAGS, VERDICT_TAG, evidence_tags
from loraline.registry.verification import check_evidence, check_version, require_proof
from loraline.registry.versions import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    errors_named,
    find_champion,
    find_version,
    registered_model_aliases,
    version_with_alias,
)

__all__ = [
    "CARD",
    "CHALLENGER",
    "CHAMPION",
    "DIGEST_TAG",
    "EVIDENCE_PATH",
    "FILE_LIST",
    "PREVIOUS",
    "REGISTERED",
    "RUN_TAGS",
    "VERDICT_TAG",
    "Advance",
    "FileList",
    "StoredFile",
    "check_evidence",
    "check_version",
    "errors_named",
    "evidence_tags",
    "find_champion",
    "find_version",
    "registered_model_aliases",
    "require_proof",
    "version_with_alias",
]
