"""A GGUF file as the source of a base: which files it depends on, and what is written from it.

A file that is named itself is the whole source. In a folder, tokenizer files that lie beside the only GGUF file take
the place of what the file has, for a file whose own tokenizer cannot be built.
"""

import shutil
from pathlib import Path

from loraline.errors import ConfigurationError
from loraline.identity import digests
from loraline.models import gguf_base
from loraline.models.gguf_header import GgufHeader
from loraline.models.model_files import GGUF_SUFFIX, TOKENIZER, VOCABULARIES, WEIGHTS, is_selected
from loraline.sources.pin import Pin


def only_gguf(folder: Path) -> str:
    """The name of the GGUF file that a folder without safetensors holds; empty where there is none.

    Raises:
        ConfigurationError: there are several.
    """
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return ""
    names = sorted(path.name for path in folder.glob(f"*{GGUF_SUFFIX}"))
    if len(names) > 1:
        raise ConfigurationError(
            f"model.source is {str(folder)!r}, which holds several GGUF files ({', '.join(names)}): name one of them"
        )
    return "".join(names)


def pin_gguf(path: Path, alone: bool) -> Pin:
    """Pin a GGUF file on this machine, with the tokenizer beside it unless it is alone.

    Raises:
        ModelLoadingError: it cannot be a base.
    """
    beside = [] if alone else _tokenizer_files(path.parent)
    gguf_base.check_gguf(path, own_tokenizer=not _has_vocabulary(beside))
    return Pin("", digests.digest_pairs((file.name, digests.digest_file(file)) for file in (path, *beside)))


def write_gguf(path: Path, folder: Path, patterns: tuple[str, ...], alone: bool) -> None:
    """Write what patterns of a model's files ask for, as an ordinary model folder.

    Raises:
        ModelLoadingError: the file cannot be a base.
    """
    beside = [] if alone else _tokenizer_files(path.parent)
    own_tokenizer = not _has_vocabulary(beside)
    header = gguf_base.check_gguf(path, own_tokenizer)
    if set(TOKENIZER) <= set(patterns):
        if own_tokenizer:
            from loraline.models.gguf_tokenizer import make_gguf_tokenizer

            make_gguf_tokenizer(header).save_pretrained(folder)
        for file in beside:
            shutil.copyfile(file, folder / file.name)
    if not set(TOKENIZER) <= set(patterns) or set(WEIGHTS) <= set(patterns):
        _write_model(path, header, folder, with_weights=set(WEIGHTS) <= set(patterns))


def _write_model(path: Path, header: GgufHeader, folder: Path, with_weights: bool) -> None:
    from loraline.models import gguf_weights  # torch: prepare_dataset, which needs the tokenizer alone, has none

    if with_weights:
        gguf_weights.write_gguf_weights(path, header, folder)
    else:
        gguf_weights.write_gguf_config(path, header, folder)


def _tokenizer_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and is_selected(path.name, TOKENIZER))


def _has_vocabulary(files: list[Path]) -> bool:
    return any(is_selected(path.name, VOCABULARIES) for path in files)
