"""The rules of the house, held to by reading the imports of every module."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("loraline", "components", "pipelines")
MODULES = sorted(f for package in PACKAGES for f in (ROOT / package).rglob("*.py"))
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
# What compiling, validating and submitting import needs no heavy package at the top of any module.
LIGHT = ("pipelines", "components", "loraline/recipe.py", "loraline/recipe_file.py", "loraline/config.py")


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


def module_name(file: Path) -> str:
    return name(file).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_imports_run_one_way(file: Path) -> None:
    """`pipelines -> components -> loraline`: none knows what stands above it."""
    above = PACKAGES[PACKAGES.index(name(file).split("/")[0]) + 1 :]
    assert not [m for m in imports(file) if m.split(".")[0] in above]


def test_no_module_imports_itself_by_a_detour() -> None:
    """Imports inside functions count: a circle that is put off is a circle."""
    known = {module_name(file): file for file in MODULES}
    graph = {
        module: {m for m in imports(file) if m in known and m != module and not module.startswith(f"{m}.")}
        for module, file in known.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_only_wrappers_and_pipelines_know_kfp(file: Path) -> None:
    if any(m.split(".")[0] in ("kfp", "kfp_server_api") for m in imports(file)):
        assert file.name == "component.py" or name(file).startswith("pipelines")


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_heavy_packages_stay_out_of_what_compiling_imports(file: Path) -> None:
    light = file.name == "config.py" or any(name(file).startswith(path) for path in LIGHT)
    if light:
        assert not {m.split(".")[0] for m in imports(file, everywhere=False)} & HEAVY


def test_a_component_folder_holds_its_wrapper_alone() -> None:
    holding = (folder for folder in (ROOT / "components").iterdir() if folder.is_dir() and folder.name != "__pycache__")
    # A folder that an older checkout left behind holds compiled files alone, and is no component.
    folders = [folder for folder in holding if any(path.is_file() for path in folder.iterdir())]
    assert folders
    for folder in folders:
        assert {file.name for file in folder.glob("*") if file.is_file()} == {"__init__.py", "component.py"}, folder


@pytest.mark.parametrize("file", [f for f in MODULES if f.name == "component.py"], ids=name)
def test_a_wrapper_is_wiring(file: Path) -> None:
    (function,) = (node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef))
    body_lines = (function.end_lineno or 0) - function.body[0].lineno + 1
    assert body_lines <= 30
    assert "from __future__" not in file.read_text(), "breaks KFP's reading of the annotations"
    decorator = ast.unparse(function.decorator_list[0])
    assert "install_kfp_package=False" in decorator
    assert "packages_to_install" not in decorator
    own = [m for m in imports(file, everywhere=False) if m.startswith(PACKAGES)]
    assert set(own) <= {"components", "components.images"}


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


def test_no_two_modules_share_a_name() -> None:
    """But those that play the same part everywhere, and those that are named after what they check or describe."""
    same_part = {"__init__.py", "component.py", "config.py"}
    named_after = ("loraline/gate/checks/", "loraline/artifacts/")
    names = [f.name for f in MODULES if f.name not in same_part and not name(f).startswith(named_after)]
    assert {one for one in names if names.count(one) > 1} == set()


def test_no_two_classes_share_a_name() -> None:
    classes = [
        node.name
        for file in MODULES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert {one for one in classes if classes.count(one) > 1} == set()
