"""The digest of the code that a step runs."""

import ast
import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from components.shared.digests import digest_file

_ROOT = Path(__file__).parent.parent  # the `components` package
# What a step computes depends on these as much as on our own code.
_LIBRARIES = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "lm-eval",
    "peft",
    "pyarrow",
    "tokenizers",
    "torch",
    "transformers",
)


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def code_digest(step: str) -> str:
    """SHA-256 over the code that a step's result depends on.

    That is: the files of its folder, every module of `components` that they import, directly or not, and
    the versions of the libraries that compute. A change elsewhere leaves the digest, and so KFP's cache, as it was.
    """
    files = _closure(_ROOT / step)
    ours = [(file.relative_to(_ROOT).as_posix(), digest_file(file)) for file in sorted(files)]
    return json_digest([ours, library_versions()])


def library_versions() -> dict[str, str]:
    """Versions of the libraries that compute, as far as they are installed here."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _closure(folder: Path) -> set[Path]:
    """All files of a folder, and those of `components` that they import, directly or not."""
    seen: set[Path] = set()
    waiting = _files_of(folder)
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        if file.suffix == ".py":
            waiting |= _imported(file) - seen
    return seen


def _files_of(folder: Path) -> set[Path]:
    return {f for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts}


def _imported(file: Path) -> set[Path]:
    """The files of `components` that a module imports, at its top or inside its functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {file for name in names if name.startswith("components.") for file in _located(name)}


def _located(module: str) -> set[Path]:
    path = _ROOT.joinpath(*module.split(".")[1:])
    if path.with_suffix(".py").is_file():
        return {path.with_suffix(".py")}
    # A package of `shared` comes whole: its templates and styles are not found by imports.
    return _files_of(path) if path.is_dir() and path.parent == _ROOT / "shared" else set()
