"""Write the images' lock files, with hashes: from pyproject.toml, at the versions of requirements.lock.

light/requirements.lock  packages of the light image
gpu/torch.lock           torch and the CUDA packages that it requires
gpu/requirements.lock    the other packages of the gpu image, with the extra `harness`, because a step installs nothing
tools.lock               packages of the build itself
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
_TORCH = re.compile(r"(torch|triton|cuda|nvidia)\b")
# Without mlflow's server and its dependencies: a step needs the client only.
_CLIENT_ONLY = ("extra.in", "--excludes", "excluded.txt")


def main() -> None:
    """Write all four lock files."""
    light = _resolve("../pyproject.toml", "--extra", "data", *_CLIENT_ONLY, "-c", "../requirements.lock")
    gpu = _resolve("../pyproject.toml", "--extra", "harness", *_CLIENT_ONLY, "-c", "../requirements.lock")
    _write("light/requirements.lock", light)
    _write("gpu/torch.lock", [entry for entry in gpu if _TORCH.match(entry)])
    _write("gpu/requirements.lock", [entry for entry in gpu if not _TORCH.match(entry)])
    _write("tools.lock", _resolve("tools.in"))


def _resolve(*sources: str) -> list[str]:
    """Resolve for Linux and Python 3.11; each entry has a package's name, version and hashes."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet"]
    form = ["--generate-hashes", "--no-header", "--no-annotate"]
    target = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
    done = subprocess.run([*command, *form, *target, *sources], cwd=HERE, check=True, stdout=subprocess.PIPE, text=True)
    return re.split(r"\n(?=\S)", done.stdout.strip())


def _write(name: str, entries: list[str]) -> None:
    (HERE / name).write_text("\n".join(entries) + "\n")


if __name__ == "__main__":
    main()
