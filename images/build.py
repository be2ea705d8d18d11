"""Build the images, and push them: `python images/build.py [light] [gpu] [--cpu] [--push REGISTRY]`.

Tags are the git revision (with `-dirty` where files differ from it), after the version where there is no git.
After a push the images' digests stand in build/images.env; sourced, they make the compiled pipeline name exactly
these images.
"""

import argparse
import os
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
WHEELS = ROOT / "build/wheels"
RECORD = ROOT / "build/images.env"
_LOCAL = ("file:", "/", ".", "~")
# Of pip's settings, those that say where packages come from and how to get there.
_PASSED_ON = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout", "retries")


def version() -> str:
    """The package's version, from pyproject.toml."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def revision() -> str:
    """The git revision, `-dirty` where tracked files differ from it; empty where this is no checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def build(image: str, tags: list[str], base: str = "", cpu: bool = False, progress: str = "auto") -> None:
    """Build one image.

    Args:
        image: `light` or `gpu`.
        tags: names to give it, such as `loraline-light:0.1.0`.
        base: what stands in for the Dockerfile's base image.
        cpu: torch for CPUs instead of CUDA; its wheel is taken from build/wheels, or fetched by pip into it.
        progress: as `docker build --progress` takes it.
    """
    arguments = {"VERSION": version(), "REVISION": revision() or "unknown"}
    arguments |= {"BASE": base} if base else {}
    arguments |= {"TORCH": "cpu"} if cpu else {}
    if cpu and image == "gpu":
        _fetch_torch_for_cpus()
    command = ["docker", "build", "--file=images/Dockerfile", f"--target={image}"]
    command += [f"--progress={progress}", "--network=host"]
    command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    command += [f"--tag={tag}" for tag in tags]
    with _pip_secrets() as secrets:
        _run([*command, *secrets, "."])


def push(image: str, tag: str) -> str:
    """Push a tag; returns the name by digest, `registry/loraline-light@sha256:...`."""
    _run(["docker", "push", "--quiet", tag])
    ask = ["docker", "image", "inspect", "--format", "{{range .RepoDigests}}{{println .}}{{end}}", tag]
    digests = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.split()
    return next(digest for digest in digests if digest.startswith(tag.rsplit(":", 1)[0] + "@"))


def _run(command: list[str]) -> None:
    """Run docker, which says itself what is wrong."""
    done = subprocess.run(command, cwd=ROOT, check=False, env={**os.environ, "DOCKER_BUILDKIT": "1"})
    if done.returncode:
        raise SystemExit(f"`docker {command[1]}` failed")


def _fetch_torch_for_cpus() -> None:
    """Have pip, with this machine's settings, fetch the wheel of torch's build for CPUs."""
    pins = (ROOT / "images/gpu/torch.lock").read_text()
    pin = next(line.split()[0] for line in pins.splitlines() if line.startswith("torch=="))
    WHEELS.mkdir(parents=True, exist_ok=True)
    if any(WHEELS.glob(pin.replace("==", "-") + "+cpu-*.whl")):
        return
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(WHEELS), f"{pin}+cpu"]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit(
            f"pip finds no {pin}+cpu. Name a place that has PyTorch's builds for CPUs in PIP_EXTRA_INDEX_URL or "
            f"PIP_FIND_LINKS, or put the wheel into {WHEELS}."
        )


@contextmanager
def _pip_secrets() -> Iterator[list[str]]:
    """This machine's pip settings and certificates, as secrets of a build: they reach no layer of the image."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "pip.conf"
        options = {"cert": "/run/secrets/certificates"} | _pip_settings()
        settings.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()))
        settings.chmod(0o600)
        yield [f"--secret=id=pip,src={settings}", f"--secret=id=certificates,src={_certificates()}"]


def _pip_settings() -> dict[str, str]:
    """pip's settings on this machine, without the places that are on its disk, where no build can look."""
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
    """The file of certificate authorities that this machine's Python or pip is told to trust."""
    told = (os.environ.get(name) for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"))
    paths = ssl.get_default_verify_paths()
    for file in (*told, paths.cafile, paths.openssl_cafile):
        if file and Path(file).is_file():
            return file
    raise SystemExit("no file of certificate authorities found; name one in SSL_CERT_FILE")


def main() -> None:
    """Build what the command line asks for, and push it if a registry is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", nargs="*", choices=[*IMAGES, []], help="which (default: both)")
    parser.add_argument("--cpu", action="store_true", help="torch for CPUs instead of CUDA")
    parser.add_argument("--push", metavar="REGISTRY", help="push to this registry, and record the digests")
    parser.add_argument("--base", default="", help="an image in place of the Dockerfile's base")
    parser.add_argument("--tag", default=revision() or version(), help="instead of the git revision")
    options = parser.parse_args()
    tag = options.tag
    if options.push and tag.endswith("-dirty"):
        raise SystemExit("there are changes that are not committed: what is pushed must be found again by its revision")
    prefix = f"{options.push.rstrip('/')}/" if options.push else ""
    pushed = {}
    for image in options.images or IMAGES:
        name = f"{prefix}loraline-{image}"
        build(image, sorted({f"{name}:{tag}", f"{name}:{version()}"}), options.base, options.cpu)
        if options.push:
            pushed[f"LORALINE_{image.upper()}_IMAGE"] = push(image, f"{name}:{tag}")
    if pushed:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text("".join(f"{name}={value}\n" for name, value in pushed.items()))
        print(RECORD.read_text(), end="")


if __name__ == "__main__":
    main()
