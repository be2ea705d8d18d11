"""What `import loraline` promises. A change of these names and signatures is a change for everybody who uses them.

`python -m tests.loraline.test_public_surface` writes the listing anew.
"""

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import loraline

LISTING = Path(__file__).with_name("public_surface.txt")


def surface() -> str:
    """Every public name: functions and classes of a job with parameters and defaults, methods and properties."""
    return "\n".join(line for name in sorted(loraline.__all__) for line in _describe(name)) + "\n"


def _describe(name: str) -> Iterator[str]:
    value = getattr(loraline, name)
    if inspect.isfunction(value):
        yield f"{name}{_parameters(value)}"
    elif issubclass(value, Exception):
        yield f"{name}({', '.join(base.__name__ for base in value.__bases__)})"
    elif value.__module__.startswith("loraline.finetune"):
        yield f"{name}{_parameters(value)}"
        for member, content in sorted(vars(value).items()):
            if inspect.isfunction(content) and not member.startswith("_"):
                yield f"    {member}{_parameters(content)}"
            elif not member.startswith("_"):
                yield f"    {member}"
    else:
        yield name


def _parameters(function: Callable[..., object]) -> inspect.Signature:
    """Names, kinds and defaults; how an annotation is written depends on the version of Python."""
    parameters = [
        one.replace(annotation=inspect.Parameter.empty) for one in inspect.signature(function).parameters.values()
    ]
    return inspect.Signature(parameters)


def test_the_public_surface_is_what_is_listed() -> None:
    assert surface() == LISTING.read_text(), "if this is meant, run python -m tests.loraline.test_public_surface"


def test_every_public_name_is_documented_where_it_is_defined() -> None:
    undocumented = [name for name in loraline.__all__ if not inspect.getdoc(getattr(loraline, name))]
    assert not undocumented
    for name, member in vars(loraline.FineTune).items():
        assert name.startswith("_") or inspect.getdoc(member), f"FineTune.{name}"


def test_there_is_no_other_name() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'finetune_all'"):
        loraline.finetune_all  # noqa: B018
    assert set(loraline.__all__) <= set(dir(loraline))


@pytest.mark.parametrize(
    "script",
    [
        "import loraline",
        "from loraline import FineTune, LoralineError, Recipe, load_recipe",
        "from loraline import FineTune; FineTune('quickstart', folder='never-made')",
    ],
)
def test_importing_loads_no_torch(script: str) -> None:
    heavy = "('torch', 'transformers', 'datasets', 'mlflow', 'peft', 'kfp')"
    code = f"{script}\nimport sys\nprint([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    LISTING.write_text(surface())
