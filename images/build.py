"""Build the images and push them: `python images/build.py [light] [gpu] [--torch cpu] [--push REGISTRY]`.

Tags are the git revision (with `-dirty` if there are uncommitted changes) and the version. A push writes the images'
digests to build/images.env, which `make compile` reads, so that the compiled pipelines name exactly these images.
"""

import argparse
import os
import re
import ssl
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ("light", "gpu")
TORCH = ("cuda", "cpu", "cpu-or-cuda")
WHEELS = ROOT / "build/wheels"
RECORD = ROOT / "build/images.env"
_LOCAL = ("file:", "/", ".", "~")
# The settings of pip that say where packages come from, and how they are fetched.
_PASSED_ON = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout", "retries")


def version() -> str:
    """The package's version, from pyproject.toml."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def revision() -> str:
    """The git revision, `-dirty` if tracked files differ from it; empty if this is not a git checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def build(image: str, tags: list[str], base: str = "", torch: str = "cuda", progress: str = "auto") -> None:
    """Build one image.

    Args:
        image: `light` or `gpu`.
        tags: its names, such as `loraline-light:0.1.0`.
        base: image that replaces the Dockerfile's base image.
        torch: build of torch, one of `TORCH`. The CPU build's wheel is taken from build/wheels, or pip downloads it
            into that folder; with `cpu-or-cuda` the CUDA build replaces it if the package index does not have it.
        progress: value of `docker build --progress`.
    """
    arguments = {"VERSION": version(), "REVISION": revision() or "unknown"}
    arguments |= {"BASE": base} if base else {}
    if image == "gpu":
        arguments |= {"TORCH": choose_torch(torch)}
    command = ["docker", "build", "--file=images/Dockerfile", f"--target={image}"]
    command += [f"--progress={progress}", "--network=host"]
    command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    command += [f"--tag={tag}" for tag in tags]
    with _pip_secrets() as secrets:
        _run([*command, *secrets, "."])


def push(image: str, tag: str) -> str:
    """Push a tag; returns the image's name by digest, `registry/loraline-light@sha256:...`."""
    _run(["docker", "push", "--quiet", tag])
    ask = ["docker", "image", "inspect", "--format", "{{range .RepoDigests}}{{println .}}{{end}}", tag]
    digests = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.split()
    return next(digest for digest in digests if digest.startswith(tag.rsplit(":", 1)[0] + "@"))


def _run(command: list[str]) -> None:
    """Run docker, which prints its own errors."""
    done = subprocess.run(command, cwd=ROOT, check=False, env={**os.environ, "DOCKER_BUILDKIT": "1"})
    if done.returncode:
        raise SystemExit(f"`docker {command[1]}` failed")


def choose_torch(wanted: str) -> str:
    """The build of torch to use, `cuda` or `cpu`; the wheel of the CPU build is then in build/wheels.

    Args:
        wanted: one of `TORCH`.

    Raises:
        SystemExit: `cpu` is wanted and the package index does not have it, or pip fails for another reason.
    """
    if wanted == "cuda":
        return "cuda"
    pins = (ROOT / "images/gpu/torch.lock").read_text()
    pin = next(line.split()[0] for line in pins.splitlines() if line.startswith("torch=="))
    WHEELS.mkdir(parents=True, exist_ok=True)
    if any(WHEELS.glob(pin.replace("==", "-") + "+cpu-*.whl")):
        return "cpu"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(WHEELS), f"{pin}+cpu"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return "cpu"
    if wanted == "cpu-or-cuda" and _only_cuda(pin, done.stderr):
        print(f"note: the package index has no {pin}+cpu: the gpu image gets the CUDA build of torch", flush=True)
        return "cuda"
    raise SystemExit(
        f"pip finds no {pin}+cpu. Name an index that has PyTorch's CPU builds in PIP_EXTRA_INDEX_URL or "
        f"PIP_FIND_LINKS, or put the wheel into {WHEELS}. pip: {done.stderr.strip()[-500:]}"
    )


def _only_cuda(pin: str, errors: str) -> bool:
    """Whether pip reached an index that lists this version of torch, but not its CPU build."""
    listed = re.search(r"\(from versions: ([^)]*)\)", errors)
    return bool(listed) and pin.removeprefix("torch==") in listed[1].split(", ")


@contextmanager
def _pip_secrets() -> Iterator[list[str]]:
    """This machine's pip settings and certificates, as build secrets, which reach no layer of the image."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "pip.conf"
        options = {"cert": "/run/secrets/certificates"} | _pip_settings()
        settings.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()))
        settings.chmod(0o600)
        yield [f"--secret=id=pip,src={settings}", f"--secret=id=certificates,src={_certificates()}"]


def _pip_settings() -> dict[str, str]:
    """pip's settings on this machine, without local folders, which a build cannot read."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = {}
    for name, value in (line.split("=", 1) for line in lines if "=" in line):
        option = name.rsplit(".", 1)[-1]
        places = [place for place in value.strip("'\"").split() if not place.startswith(_LOCAL)]
        if option in _PASSED_ON and places:
            found[option] = " ".join(places)
    return found


def _certificates() -> str:
    """The file of certificate authorities that this machine's Python or pip trusts."""
    named = (os.environ.get(name) for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"))
    paths = ssl.get_default_verify_paths()
    for file in (*named, paths.cafile, paths.openssl_cafile):
        if file and Path(file).is_file():
            return file
    raise SystemExit("no file of certificate authorities found; set SSL_CERT_FILE to one")


def main() -> None:
    """Build the images that the command line names, and push them if a registry is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", nargs="*", choices=[*IMAGES, []], help="which (default: both)")
    parser.add_argument("--torch", choices=TORCH, default="cuda", help="build of torch in the gpu image")
    parser.add_argument("--push", metavar="REGISTRY", help="push to this registry, and record the digests")
    parser.add_argument("--base", default="", help="an image that replaces the Dockerfile's base")
    parser.add_argument("--tag", default=revision() or version(), help="instead of the git revision")
    options = parser.parse_args()
    tag = options.tag
    if options.push and tag.endswith("-dirty"):
        raise SystemExit("there are uncommitted changes: an image is pushed under the revision that it was built from")
    prefix = f"{options.push.rstrip('/')}/" if options.push else ""
    pushed = {}
    for image in options.images or IMAGES:
        name = f"{prefix}loraline-{image}"
        build(image, sorted({f"{name}:{tag}", f"{name}:{version()}"}), options.base, options.torch)
        if options.push:
            pushed[f"LORALINE_{image.upper()}_IMAGE"] = push(image, f"{name}:{tag}")
    if pushed:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text("".join(f"{name}={value}\n" for name, value in pushed.items()))
        print(RECORD.read_text(), end="")


if __name__ == "__main__":
    main()
