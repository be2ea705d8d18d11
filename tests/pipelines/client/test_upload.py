"""Uploading: the git revision as the version's name, and nothing twice."""

import subprocess
from pathlib import Path

import pytest

from loraline.errors import ClusterError, ConfigurationError
from pipelines.client.cluster_settings import cluster_settings
from pipelines.client.connection import Cluster, connect
from pipelines.client.upload import Revision, code_revision, upload, version_name
from tests.pipelines.client.server import Answer, KfpServer


def test_the_first_upload_makes_the_pipeline_and_one_version(
    cluster: Cluster, server: KfpServer, package: Path
) -> None:
    done = upload(cluster, package, "abc123")
    assert (done.pipeline, done.version, done.is_new) == ("loraline-finetune", "abc123", True)
    (pipeline,) = server.state.pipelines.values()
    (version,) = server.state.versions.values()
    assert (version.pipeline_id, version.name) == (pipeline.pipeline_id, "abc123")
    assert done.link == f"{server.url}/#/pipelines/details/{pipeline.pipeline_id}/version/{version.pipeline_version_id}"
    assert server.asked("POST /apis/v2beta1/pipelines/upload_version")[0].upload == package.read_text()


def test_the_same_again_is_there_already(cluster: Cluster, server: KfpServer, package: Path) -> None:
    first = upload(cluster, package, "abc123")
    again = upload(cluster, package, "abc123")
    assert not again.is_new
    assert again.link == first.link
    assert len(server.asked("POST")) == 2  # the pipeline and its version, once


def test_another_revision_is_another_version_of_the_same_pipeline(
    cluster: Cluster, server: KfpServer, package: Path
) -> None:
    upload(cluster, package, "abc123")
    assert upload(cluster, package, "def456").is_new
    assert len(server.state.pipelines) == 1
    assert [one.name for one in server.state.versions.values()] == ["abc123", "def456"]


def test_a_version_never_changes_its_content(cluster: Cluster, package: Path, tmp_path: Path) -> None:
    upload(cluster, package, "abc123")
    other = tmp_path / "other.yaml"
    other.write_text(package.read_text().replace("loraline-gpu:0.1.0", "loraline-gpu:0.2.0"))
    with pytest.raises(ClusterError, match=r"'abc123' .* with different content"):
        upload(cluster, other, "abc123")


def test_a_pipeline_left_without_a_version_gets_one(cluster: Cluster, server: KfpServer, package: Path) -> None:
    server.refuse("POST /apis/v2beta1/pipelines/upload_version", Answer(503, {"message": "restarting"}))
    with pytest.raises(ClusterError, match="restarting"):
        upload(cluster, package, "abc123")
    assert upload(cluster, package, "abc123").is_new
    assert len(server.state.pipelines) == 1


def test_a_concurrent_upload_is_reported(cluster: Cluster, server: KfpServer, package: Path) -> None:
    conflict = Answer(409, {"error_message": "Failed to create a pipeline version"})
    server.refuse("POST /apis/v2beta1/pipelines/upload_version", conflict)
    with pytest.raises(ClusterError, match=r"HTTP 409.*Failed to create"):
        upload(cluster, package, "abc123")


def test_where_there_are_several_users_the_pipeline_is_the_namespaces(server: KfpServer, package: Path) -> None:
    server.multi_user = True
    cluster = connect(cluster_settings(server.url, namespace="team"))
    upload(cluster, package, "abc123")
    (pipeline,) = server.state.pipelines.values()
    assert pipeline.namespace == "team"


def test_what_is_no_package_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="loraline compile"):
        upload(cluster, tmp_path / "none.yaml", "v")
    (tmp_path / "recipe.yaml").write_text("data: {}\n")
    with pytest.raises(ConfigurationError, match="not a compiled pipeline"):
        upload(cluster, tmp_path / "recipe.yaml", "v")


def test_the_revision_is_gits_and_changes_are_noticed(tmp_path: Path, package: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    clean = code_revision(tmp_path)
    assert len(clean.commit) == 12
    assert not clean.dirty
    assert version_name(package, clean) == clean.commit
    (tmp_path / "new.py").write_text("")
    assert code_revision(tmp_path) == Revision(clean.commit, dirty=True)


def test_uncommitted_changes_are_distinguished_by_the_package(package: Path, tmp_path: Path) -> None:
    dirty = Revision("abc123", dirty=True)
    other = tmp_path / "other.yaml"
    other.write_text(package.read_text() + "# changed\n")
    assert version_name(package, dirty).startswith("abc123-dirty-")
    assert version_name(package, dirty) != version_name(other, dirty)


def test_outside_a_checkout_the_version_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ConfigurationError, match=r"--version.*git"):
        code_revision(tmp_path)
