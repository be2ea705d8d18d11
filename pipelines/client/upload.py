"""Upload a compiled pipeline to the server, as a version named after the code's revision."""

import contextlib
import hashlib
import io
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loraline.errors import ClusterError, ConfigurationError
from pipelines.client.connection import Cluster, equals, listed

_REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Revision:
    """The git revision of the code that a package was compiled from."""

    commit: str
    """Abbreviated hash, 12 hex digits."""
    dirty: bool
    """Whether there are uncommitted changes."""


@dataclass(frozen=True)
class Upload:
    """An uploaded pipeline version."""

    pipeline: str
    version: str
    link: str
    is_new: bool
    """False: the server had it already, with the same content."""


def code_revision(folder: Path = _REPOSITORY) -> Revision:
    """The revision of the git checkout that contains this code.

    Raises:
        ConfigurationError: the code is not in a git checkout, or git fails.
    """
    return Revision(_git(folder, "rev-parse", "--short=12", "HEAD"), bool(_git(folder, "status", "--porcelain")))


def version_name(package: Path, revision: Revision) -> str:
    """The commit; with uncommitted changes, a `-dirty` mark and a digest of the package are appended."""
    return f"{revision.commit}-dirty-{_digest(package)[:8]}" if revision.dirty else revision.commit


def upload(cluster: Cluster, package: Path, version: str) -> Upload:
    """Upload a package as a version of the pipeline that it names; creates the pipeline if it does not exist.

    Uploading the same package under the same version again changes nothing.

    Raises:
        ClusterError: the server refuses, or has that version with different content.
    """
    pipeline = _pipeline_name(package)
    pipeline_id = find_pipeline(cluster, pipeline) or _create_pipeline(cluster, pipeline)
    mark = f"package sha256:{_digest(package)}"
    found = find_version(cluster, pipeline_id, version)
    if found is None:
        with contextlib.redirect_stdout(io.StringIO()):  # the client prints its own link
            made = cluster.client.upload_pipeline_version(
                str(package), pipeline_version_name=version, pipeline_id=pipeline_id, description=mark
            )
    elif mark not in (found.description or ""):
        raise ClusterError(
            f"version {version!r} of {pipeline} is on the server with different content (were other images set at"
            " compile time?). A version cannot be changed: commit first, or choose a name with --version."
        )
    else:
        made = found
    page = f"pipelines/details/{pipeline_id}/version/{made.pipeline_version_id}"
    return Upload(pipeline, version, cluster.link(page), is_new=found is None)


def find_pipeline(cluster: Cluster, name: str) -> str | None:
    """The id of the pipeline with a name, if there is one."""
    call = cluster.client.list_pipelines
    found = listed(call, "pipelines", namespace=cluster.namespace, filter=equals("display_name", name))
    return next((one.pipeline_id for one in found), None)


def find_version(cluster: Cluster, pipeline_id: str, name: str | None) -> Any | None:
    """A pipeline's version with a name, or its latest; None if there is none. KFP's V2beta1PipelineVersion."""
    call = cluster.client.list_pipeline_versions
    if name is None:
        latest = call(pipeline_id, page_size=1, sort_by="created_at desc")
        return next(iter(latest.pipeline_versions or []), None)
    found = listed(call, "pipeline_versions", pipeline_id=pipeline_id, filter=equals("display_name", name))
    return next(found, None)


def _create_pipeline(cluster: Cluster, name: str) -> str:
    """Create a pipeline without versions; `upload_pipeline` would add a version with the pipeline's name."""
    import kfp_server_api

    pipeline = kfp_server_api.V2beta1Pipeline(name=name, display_name=name, namespace=cluster.namespace)
    made = cluster.client.pipelines.pipeline_service_create_pipeline(pipeline=pipeline)
    return str(made.pipeline_id)


def _pipeline_name(package: Path) -> str:
    if not package.is_file():
        raise ConfigurationError(
            f"no package {str(package)!r}: create it with `loraline compile --output {package.parent}`"
        )
    try:
        spec = next(yaml.safe_load_all(package.read_text()), None)
        return str(spec["pipelineInfo"]["name"])  # type: ignore[index]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{package} is not a compiled pipeline: create one with `loraline compile`") from error


def _digest(package: Path) -> str:
    return hashlib.sha256(package.read_bytes()).hexdigest()


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise ConfigurationError("git is not installed: give the version's name with --version") from error
    except subprocess.CalledProcessError as error:
        raise ConfigurationError(
            "the code's git revision cannot be read: give the version's name with --version. "
            f"git: {error.stderr.strip()}"
        ) from error
    return done.stdout.strip()
