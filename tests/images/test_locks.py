"""The images' lock files, which are made by `make lock`."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("light/requirements.lock", "gpu/requirements.lock", "gpu/torch.lock", "tools.lock")


def pins(lock: str) -> dict[str, set[str]]:
    """Versions by package; there are two where they differ by the version of Python."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", (ROOT / lock).read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_a_hash(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / "images" / lock).read_text().strip())
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("lock", LOCKS[:3])
def test_versions_are_those_that_people_run(lock: str) -> None:
    ours = pins("requirements.lock")
    # CUDA's packages are no part of what people run on their own machines.
    other = {name for name, versions in pins(f"images/{lock}").items() if not versions <= ours.get(name, set())}
    assert {name for name in other if not name.startswith(("cuda-", "nvidia-", "triton"))} == set()


@pytest.mark.parametrize(("lock", "extras"), [("light", ["data"]), ("gpu", ["data", "train", "harness"])])
def test_what_pyproject_asks_for_is_in_the_image(lock: str, extras: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    names = {re.split(r"[<>=\[]", one)[0] for one in wanted} - {"loraline"}
    excluded = set(re.findall(r"^\w[\w-]*$", (ROOT / "images/excluded.txt").read_text(), re.MULTILINE))
    there = set(pins(f"images/{lock}/requirements.lock")) | (
        set(pins("images/gpu/torch.lock")) if lock == "gpu" else set()
    )
    assert names - excluded - there == set()


def test_the_light_image_has_no_torch() -> None:
    assert not {"torch", "peft", "accelerate", "bitsandbytes"} & set(pins("images/light/requirements.lock"))
