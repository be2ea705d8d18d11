"""What the pages tell people to type: it exists, and it does what is said."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from pipelines import document
from pipelines.cli.app import app
from pipelines.compile import PIPELINES, compile_pipelines
from pipelines.placement import STEP_NEEDS, PlacementConfig
from tests.documentation import PAGES, ROOT, Command, block, blocks, commands, inline
from tests.pipelines.client.server import KfpServer

OPERATOR = ROOT / "docs/operator.md"
HELP = {"--help", "-h"}
COMMAND_LINE = typer.main.get_command(app)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
of_all_pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
with_kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not on the PATH")


def resolve(words: tuple[str, ...]) -> tuple[TyperCommand | TyperGroup, list[str]]:
    """The command that the words name, and the words left for it."""
    found, rest = COMMAND_LINE, list(words[1:])
    while isinstance(found, TyperGroup) and rest and not rest[0].startswith("-"):
        assert rest[0] in found.commands, f"no command {rest[0]!r}"
        found, rest = found.commands[rest[0]], rest[1:]
    assert isinstance(found, TyperCommand) or not rest or rest[0] in HELP, words
    return found, rest


@of_all_pages
def test_commands_are_complete_and_take_what_they_are_given(page: Path) -> None:
    for one in commands(page, "loraline"):
        command, rest = resolve(one.words)
        if not HELP & set(rest):
            command.make_context("loraline", rest)  # raises with what is missing, or is not known


@of_all_pages
def test_commands_in_the_prose_have_the_options_that_are_named(page: Path) -> None:
    for one in inline(page, "loraline"):
        command, rest = resolve(one.words)
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in rest if word.startswith("-")} <= options | HELP, str(one)


@of_all_pages
def test_the_jobs_of_make_exist(page: Path) -> None:
    for one in [*commands(page, "make"), *inline(page, "make")]:
        assert {word for word in one.words[1:] if "=" not in word} <= TARGETS, str(one)


@of_all_pages
def test_files_that_are_named_are_there(page: Path) -> None:
    named = re.findall(
        r"(?<![\w./-])((?:components|docs|images|manifests|pipelines|tests)/[\w./-]*\w)(?![\w<*])", page.read_text()
    )
    base = [ROOT, page.parent]  # manifests/README.md names its own components and overlays
    assert [one for one in named if not any((folder / one).exists() for folder in base)] == []


def test_the_page_of_parameters_is_what_the_code_says() -> None:
    message = "docs/parameters.md is out of date: run `make docs`"
    assert document.PAGE.read_text(encoding="utf-8") == document.parameters_page(), message


@pytest.fixture
def carried_out(tmp_path: Path) -> Callable[[str], list[dict[str, object]]]:
    """Carries out a shell block for real, but that kubectl stops short of a cluster; gives what would go to it."""
    kubectl = tmp_path / "bin/kubectl"
    kubectl.parent.mkdir()
    # Secrets and namespaces are made by kubectl itself; what would be applied is checked to be YAML.
    kubectl.write_text(
        f"""#!/bin/sh
case "$*" in
  *"create secret"*|*"create namespace"*)
    {shutil.which("kubectl")} $(printf '%s\\n' "$@" | grep -v -- --dry-run | grep -v -- -o$ | grep -v '^yaml$') \\
      --dry-run=client -o yaml | tee -a {tmp_path}/made; echo --- >> {tmp_path}/made ;;
  *"apply -f -") cat >> {tmp_path}/applied; echo --- >> {tmp_path}/applied ;;
  *) echo "$*" >> {tmp_path}/others ;;
esac
"""
    )
    kubectl.chmod(0o755)

    def carry_out(script: str) -> list[dict[str, object]]:
        environment = {**os.environ, "PATH": f"{kubectl.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        subprocess.run(["bash", "-euc", script], cwd=ROOT, env=environment, check=True, capture_output=True)
        texts = [path.read_text() for path in (tmp_path / "made", tmp_path / "applied") if path.exists()]
        return [one for text in texts for one in yaml.safe_load_all(text) if one]

    return carry_out


def secrets_of(resources: list[dict[str, object]]) -> dict[tuple[str, str], set[str]]:
    found = {}
    for one in resources:
        if one["kind"] == "Secret":
            metadata, data = one["metadata"], one["data"]
            assert isinstance(metadata, dict)
            assert isinstance(data, dict)
            found[metadata["namespace"], metadata["name"]] = set(data)
    return found


@with_kubectl
def test_the_secrets_that_are_made_are_those_that_are_read(
    carried_out: Callable[[str], list[dict[str, object]]], tmp_path: Path
) -> None:
    """Of the steps as placement.py gives them, of the services as the table of the manifests has them."""
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text('{"auths": {}}')
    made = secrets_of(
        carried_out(
            "\n".join(
                (
                    block(OPERATOR, "steps="),
                    block(OPERATOR, "umask"),
                    block(OPERATOR, "read -rs token").replace("read -rs token", "token=secret"),
                )
            )
        )
    )
    names = PlacementConfig().model_dump()
    for needs in STEP_NEEDS.values():
        for secret in needs.secrets:
            assert set(secret.required) <= made["kubeflow-user", names[secret.parameter]]
            assert made["kubeflow-user", names[secret.parameter]] <= {*secret.required, *secret.optional}
    assert made["kubeflow-user", names["image_pull_secret"]] == {".dockerconfigjson"}
    table = re.findall(r"^\| loraline \| ([\w-]+) \| ([\w, ]+) \|", (ROOT / "manifests/README.md").read_text(), re.M)
    services = {("loraline", name): set(keys.split(", ")) for name, keys in table if "metrics" not in name}
    assert services == {key: keys for key, keys in made.items() if key[0] == "loraline"}


def test_the_table_says_which_step_reads_which_secret() -> None:
    names = PlacementConfig().model_dump()
    rows = re.findall(r"^\| `([\w-]+)` \| ([\w, ]*) ?\| ([\w, .]*) ?\| ([^|]*) \|", OPERATOR.read_text(), re.MULTILINE)
    told = {name: (keys, optional, readers) for name, keys, optional, readers in rows}
    secrets = {names[one.parameter]: one for needs in STEP_NEEDS.values() for one in needs.secrets}
    for name, secret in secrets.items():
        keys, optional, readers = told[name]
        assert keys.strip() == ", ".join(secret.required)
        assert optional.strip() == ", ".join(secret.optional)
        reading = [step.replace("-", "_") for step, needs in STEP_NEEDS.items() if secret in needs.secrets]
        assert sorted(readers.partition(";")[0].split(", ")) == sorted(reading), name
    assert names["image_pull_secret"] in told


@with_kubectl
def test_the_secrets_come_back_as_the_variables_of_a_shell() -> None:
    function = re.search(r"^export_secret\(\) \{.*?^\}", block(OPERATOR, "export_secret"), re.MULTILINE | re.DOTALL)
    assert function
    template = re.search(r"-o (go-template='.*')", function[0])
    assert template
    script = f"""eval "$(printf 'A=1 2\\nB=x=y\\n' | kubectl create secret generic one --dry-run=client \
        --from-env-file=/dev/stdin -o {template[1]})"; echo "$A,$B" """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 2,x=y"


@with_kubectl
def test_the_pod_that_owns_the_cache_is_one(carried_out: Callable[[str], list[dict[str, object]]]) -> None:
    script = block(OPERATOR, "kubectl apply -k manifests/overlays/model-cache")
    script = script.replace("image=$(sed", "image=loraline-light # $(sed").replace("LORALINE_MODEL_CACHE=", "true ")
    [pod] = carried_out(f"steps=kubeflow-user\n{script}")
    import kubernetes_validate

    kubernetes_validate.validate(pod, "1.33", strict=True)
    claim = yaml.safe_load((ROOT / "manifests/overlays/model-cache/claim.yaml").read_text())["metadata"]["name"]
    assert claim in str(pod)
    assert claim in script.rpartition("LORALINE_MODEL_CACHE")[0] or f"true {claim}" in script


def test_overlays_that_are_applied_are_there() -> None:
    choices = re.findall(r"^\| overlays/([\w-]+) \|", (ROOT / "manifests/README.md").read_text(), re.MULTILINE)
    for page in PAGES:
        for one in [*commands(page, "kubectl"), *inline(page, "kubectl")]:
            folders = [after for word, after in zip(one.words, one.words[1:], strict=False) if word == "-k"]
            for folder in folders:
                for choice in choices:
                    place = ROOT / folder.replace("$overlay", choice)
                    assert (place / "kustomization.yaml").is_file(), str(one)


OF_KUBERNETES = {"ImagePullBackOff", "CreateContainerConfigError", "Pending", "OOMKilled", "reject"}
OF_KUBERNETES |= {'serviceaccount "pipeline-runner" not found'}


def test_the_messages_that_are_explained_are_those_of_the_code() -> None:
    code = " ".join(
        path.read_text()
        for folder in ("loraline", "components", "pipelines", "images")
        for path in sorted((ROOT / folder).rglob("*.py"))
    )
    table = OPERATOR.read_text().partition("## When it fails")[2].partition("\n## ")[0]
    symptoms = {one for row in re.findall(r"^\| ([^|]+) \|", table, re.M) for one in re.findall("`([^`]+)`", row)}
    assert symptoms - OF_KUBERNETES
    words = " ".join(re.sub(r'"\s*\n\s*f?"', "", code).split())
    assert {one for one in symptoms - OF_KUBERNETES if one not in words} == set()


def on_the_cluster(one: Command) -> bool:
    return one.words[1] in ("submit", "runs", "schedule", "logs", "upload", "validate")


def test_the_first_run_and_the_first_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's commands one after another, against a double of the KFP server."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("KFP_", "KF_", "LORALINE_"))]:
        monkeypatch.delenv(name)
    with KfpServer().running() as server:
        monkeypatch.setenv("KFP_ENDPOINT", server.url)
        for package in compile_pipelines(tmp_path / "build"):
            call("upload", str(package), "--version", "abc")
        server.state.frames = [("SUCCEEDED", {})]
        for one in commands(OPERATOR, "loraline"):
            if on_the_cluster(one):
                said = call(*one.words[1:])
                if one.words[1] == "validate":
                    (tmp_path / "mine.yaml").write_text(said)
        assert len(server.state.runs) == 2
        assert len(server.state.recurring) == 1
        assert not server.violations


def call(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"loraline {' '.join(words)}\n{done.output}"
    return done.stdout


def test_every_pipeline_is_uploaded_by_make() -> None:
    asked = subprocess.run(["make", "-n", "compile-and-upload"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(name in asked.stdout for name in PIPELINES)


def test_every_block_is_a_script_that_bash_can_read() -> None:
    for page in PAGES:
        for one in blocks(page):
            subprocess.run(["bash", "-n", "-c", one], check=True, capture_output=True)
