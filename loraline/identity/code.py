"""The code that a step's result depends on, as one digest.

It covers the modules that hold the step's function and every module of `loraline` that they import, directly or
not, as syntax: a comment, a docstring, the text of an error or of a progress message is none of it. What cannot
change a result is left out by name (`WITHOUT_EFFECT`).

The digest is an argument of the step, because KFP's cache key covers the image and the arguments, and not the code
that a mutable tag stands for. It needs no library that the step has, so that any image computes the same.
"""

import ast
import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

from loraline.identity.digests import digest_pairs

STEPS = {
    "prepare_dataset": ("loraline.data.prepare",),
    "load_model": ("loraline.models.fetch",),
    "train_lora": ("loraline.training.train",),
    "evaluate_model": ("loraline.evaluation.evaluate", "loraline.evaluation.evaluate_champion"),
    "merge_adapter": ("loraline.merging.merge",),
    "gate": ("loraline.gate.judge",),
    "register_model": ("loraline.registry.register",),
}
"""The modules that hold each step's function."""

WITHOUT_EFFECT = (
    "loraline.errors",
    "loraline.feasibility",
    "loraline.identity.code",
    "loraline.identity.libraries",
    "loraline.identity.step_identity",
    "loraline.progress",
    "loraline.quickstart",
    "loraline.report",
    "loraline.step",
    "loraline.storage",
    "loraline.tracking",
    "loraline.training.multinode",
    "loraline.units",
)
"""Modules and packages that report, format, draw, refuse, move bytes whose digests are checked, or start processes
elsewhere; and the quickstart's rows and base, which are pinned as sources, by their content."""

_ROOT = Path(__file__).parents[2]
_MESSAGES = {"advance", "emit", "headline", "note"}  # of loraline.progress


T = TypeVar("T")


def code_digest(step: str) -> str:
    """SHA-256 over the code that a step's result depends on.

    Args:
        step: a key of `STEPS`.
    """
    return digest_pairs((module, _remembered(_digest, module_file(module))) for module in closure(step))


def closure(step: str) -> set[str]:
    """Names of the modules of `loraline` that a step's function imports, directly or not, itself included."""
    seen: set[str] = set()
    waiting = set(STEPS[step])
    while waiting:
        module = waiting.pop()
        seen.add(module)
        imported = {found for name in _remembered(_imports, module_file(module)) if (found := _module_of(name))}
        waiting |= {found for found in imported if not has_no_effect(found)} - seen
    return seen


def has_no_effect(module: str) -> bool:
    """Whether a module cannot change what a step comes to."""
    return any(module == name or module.startswith(f"{name}.") for name in WITHOUT_EFFECT)


def imports(source: bytes) -> Iterator[str]:
    """Names that a module imports, at its top or inside its functions, but not those that only a type checker reads."""
    for node in _executed(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from _executed(child)


def _module_of(name: str) -> str | None:
    """The module of `loraline` that an imported name is, or stands in; None for those of others."""
    while name.startswith("loraline"):
        if module_file(name).is_file():
            return name
        name = name.rpartition(".")[0]
    return None


def module_file(module: str) -> Path:
    """The file of a module of `loraline`, or of a package's top."""
    path = _ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _remembered(read: Callable[[Path, int, int], T], file: Path) -> T:
    """What is read of a file, once as long as the file stays as it is: steps share most of their modules."""
    stat = file.stat()
    return read(file, stat.st_mtime_ns, stat.st_size)


@cache
def _imports(file: Path, _modified: int, _size: int) -> frozenset[str]:
    return frozenset(imports(file.read_bytes()))


@cache
def _digest(file: Path, _modified: int, _size: int) -> str:
    return hashlib.sha256(normalized(file.read_bytes()).encode()).hexdigest()


def normalized(source: bytes) -> str:
    """A module's syntax without what has no effect: comments, docstrings, and the texts of errors and of progress."""
    return ast.dump(_Normalizer().visit(ast.parse(source)))


class _Normalizer(ast.NodeTransformer):
    """Takes out docstrings (of fields as well), calls that report progress, and the arguments of errors."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if is_text or _is_message(node.value) else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        return node


def _is_message(call: ast.expr) -> bool:
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "progress"
        and call.func.attr in _MESSAGES
    )
