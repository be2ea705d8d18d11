"""Write an image's bill of materials (CycloneDX): its Python packages and the system's packages.

Runs during the build of the image, with the interpreter of the `tools` stage.
"""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any


def main(environment: Path) -> None:
    """Write `environment`/sbom.cdx.json for the virtual environment at that path."""
    output = environment / "sbom.cdx.json"
    python = environment / "bin/python3"
    command = [f"{sys.prefix}/bin/cyclonedx-py", "environment", "--output-reproducible", "-o", str(output), str(python)]
    subprocess.run(command, check=True)
    bill = json.loads(output.read_text())
    bill["components"] += _debian_packages()
    output.write_text(json.dumps(bill, indent=1) + "\n")


def _debian_packages() -> list[dict[str, Any]]:
    """The system's packages, as CycloneDX components."""
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\n"]
    lines = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()
    return [_debian_package(line, release) for line in sorted(lines)]


def _debian_package(line: str, release: str) -> dict[str, Any]:
    name, version, architecture = line.split()
    purl = f"pkg:deb/debian/{name}@{version.replace('+', '%2B')}?arch={architecture}&distro={release}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
