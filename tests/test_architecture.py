"""The rules of the house, held to by reading the imports of every module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(f for package in ("components", "pipelines") for f in (ROOT / package).rglob("*.py"))
HEAVY = {
    "accelerate",
    "bitsandbytes",
    "datasets",
    "matplotlib",
    "mlflow",
    "peft",
    "pyarrow",
    "torch",
    "transformers",
}
# The steps that need no heavy package at the top of any module: what compiling and validating import.
LIGHT = ["pipelines", "components/recipe.py", "components/images.py"]


def imports(file: Path, everywhere: bool = True) -> Iterator[str]:
    """Names of the modules that a file imports: everywhere, or only when it is itself imported."""
    tree = ast.parse(file.read_text())
    nodes = ast.walk(tree) if everywhere else iter(_run_at_import(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run_at_import(child)


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def step_of(module: str) -> str | None:
    """The step that a module belongs to; none for `shared` and for the modules beside the steps."""
    parts = module.removesuffix(".py").replace("/", ".").split(".")
    if len(parts) < 2 or parts[0] != "components" or not (ROOT / "components" / parts[1]).is_dir():
        return None
    return None if parts[1] == "shared" else parts[1]


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_components_do_not_know_the_pipelines(file: Path) -> None:
    if name(file).startswith("components"):
        assert not [m for m in imports(file) if m.split(".")[0] == "pipelines"]


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_no_step_imports_another(file: Path) -> None:
    own = step_of(name(file))
    others = {m for m in imports(file) if step_of(m) not in (None, own)}
    if own is None:
        # The recipe is made of the steps' settings, and pipelines stand above all steps.
        assert name(file).startswith("pipelines") or all(".config" in m for m in others), others
    elif own == "resolve_recipe":
        assert all(".config" in m for m in others), others
    else:
        assert not others
        assert own is None or not [m for m in imports(file) if m.startswith("components.recipe")]


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_only_wrappers_and_pipelines_know_kfp(file: Path) -> None:
    if any(m.split(".")[0] in ("kfp", "kfp_server_api") for m in imports(file)):
        assert file.name == "component.py" or name(file).startswith("pipelines")


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_heavy_packages_stay_out_of_what_compiling_imports(file: Path) -> None:
    light = file.name in ("config.py", "component.py") or any(name(file).startswith(path) for path in LIGHT)
    if light:
        assert not {m.split(".")[0] for m in imports(file, everywhere=False)} & HEAVY


@pytest.mark.parametrize("file", [f for f in MODULES if f.name == "component.py"], ids=name)
def test_a_wrapper_is_wiring(file: Path) -> None:
    (function,) = (node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef))
    body_lines = (function.end_lineno or 0) - function.body[0].lineno + 1
    assert body_lines <= 30
    assert "from __future__" not in file.read_text(), "breaks KFP's reading of the annotations"
    decorator = ast.unparse(function.decorator_list[0])
    assert "install_kfp_package=False" in decorator
    assert "packages_to_install" not in decorator
    assert not [m for m in imports(file, everywhere=False) if m.startswith("components.") and m != "components.images"]


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_files_and_functions_fit_in_a_glance(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        # A wrapper's signature lists a recipe's parameters one by one: only its body is measured, above.
        if isinstance(node, ast.FunctionDef) and file.name != "component.py":
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is {node.end_lineno - node.lineno} lines"


def test_every_module_is_ascii() -> None:
    for file in [*MODULES, *(ROOT / "tests").rglob("*.py")]:
        assert file.read_text().isascii(), file
