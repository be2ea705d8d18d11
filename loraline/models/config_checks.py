"""What a model's configuration alone says against fine-tuning it. Needs no torch; the first part no transformers."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from loraline.errors import ModelLoadingError
from loraline.models.stored_quantization import quantization_problem

_NO_GENERATORS = (
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)
"""Endings of architectures that continue no text."""


def settings_problems(settings: dict[str, Any]) -> list[str]:
    """What the content of config.json says against a base."""
    problems = []
    architectures = settings.get("architectures") or []
    if architectures and all(name.endswith(_NO_GENERATORS) for name in architectures):
        problems.append(f"it is a {', '.join(architectures)}, which continues no text; take a causal language model")
    if settings.get("is_encoder_decoder"):
        problems.append("it is an encoder-decoder; take a causal language model")
    if problem := quantization_problem(settings):
        problems.append(problem)
    return problems


def tied_problems(settings: dict[str, Any], target_modules: list[str]) -> list[str]:
    """Whether the output head is to be adapted, and config.json says that it shares its weights."""
    text = settings.get("text_config") or settings
    if "lm_head" not in target_modules or not settings.get("tie_word_embeddings", text.get("tie_word_embeddings")):
        return []
    return [
        "training.target_modules names 'lm_head', which shares its weights with the input embeddings "
        "(tie_word_embeddings): an adapter would change only one of them; remove it from the list"
    ]


def names_problems(tensors: Iterable[str], target_modules: list[str]) -> list[str]:
    """Targets that are misspelt, by the names of the tensors in the files.

    The model's modules may have other names than those, so that a name which is like none of them is not objected to.
    """
    if any(".experts." in name for name in tensors):
        return []
    known = {name.removesuffix(".weight").rsplit(".", 1)[-1] for name in tensors if name.endswith(".weight")}
    near = {
        target: get_close_matches(target, known, n=1, cutoff=0.8)
        for target in target_modules
        if target != "all-linear" and target.rsplit(".", 1)[-1] not in known
    }
    return [
        f"training.target_modules: no weight is called {target!r}; did you mean {names[0]!r}?"
        for target, names in near.items()
        if names
    ]


def support_problems(folder: Path, source: str) -> list[str]:
    """Whether transformers, as it is installed, knows a configuration as one of a model that continues text."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    from loraline.models.folder import load_config

    try:
        config = load_config(folder)
    except ModelLoadingError as error:
        return [" ".join(str(error).replace(str(folder), source).split())]
    known = (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if remote or any(config.model_type in names for names in known):
        return []
    return [f"its model_type {config.model_type!r} is none that transformers has as a causal language model"]
