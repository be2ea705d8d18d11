"""The components, each in a kustomization such as an operator would write."""

import json
import os
from pathlib import Path

import pytest
import yaml

from tests.manifests import rendering
from tests.manifests.rendering import MANIFESTS, Resource, components, name, of_kind, pod_templates, render

# As much of KFP's own Deployment as the component touches: names, and what is there already.
API_SERVER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: ml-pipeline, namespace: kubeflow}
spec:
  selector: {matchLabels: {app: ml-pipeline}}
  template:
    metadata: {labels: {app: ml-pipeline}}
    spec:
      containers:
        - name: ml-pipeline-api-server
          image: ghcr.io/kubeflow/kfp-api-server:2.17.0
          volumeMounts: [{name: tmp, mountPath: /tmp}]
      volumes: [{name: tmp, emptyDir: {}}]
"""
SETTINGS = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: loraline-settings
  annotations: {config.kubernetes.io/local-config: "true"}
data: {steps-namespace: team-a}
"""


def build(folder: Path, component: str, resources: list[str], extra: dict[str, str]) -> list[Resource]:
    """Render a kustomization of the operator's own that uses a component."""
    for file, text in extra.items():
        (folder / file).write_text(text)
    here = os.path.relpath(MANIFESTS, folder.resolve())
    kustomization = {
        "resources": [f"{here}/{resource}" for resource in resources] + list(extra),
        "components": [f"{here}/components/{component}"],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(folder)


def test_all_components_are_tested() -> None:
    assert [name(folder) for folder in components()] == ["components/kfp-api-server", "components/steps-namespace"]


def test_the_steps_namespace_changes_as_a_whole(tmp_path: Path) -> None:
    before = render(MANIFESTS / "overlays" / "complete")
    after = build(tmp_path, "steps-namespace", ["overlays/complete"], {"settings.yaml": SETTINGS})
    assert yaml.safe_dump_all(after).count("kubeflow-user") == 0
    assert len(after) == len(before), "the settings themselves must stay out of the cluster"
    assert "team-a" in {r["metadata"]["name"] for r in of_kind(after, "Namespace")}
    for binding in of_kind(after, "RoleBinding"):
        for subject in binding["subjects"]:
            assert subject["namespace"] == ("kubeflow" if subject["name"] == "ml-pipeline" else "team-a")


def test_the_api_server_gets_the_plugin_and_keeps_the_rest(tmp_path: Path) -> None:
    made = build(tmp_path, "kfp-api-server", [], {"kfp.yaml": API_SERVER})
    (_, template), (settings,) = next(pod_templates(made)), of_kind(made, "ConfigMap")
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] == settings["metadata"]["name"]
    assert "tmp" in volumes
    mounts = {mount["name"]: mount for mount in template["spec"]["containers"][0]["volumeMounts"]}
    assert mounts["config"]["mountPath"] == "/config/config.json"
    assert mounts["config"]["subPath"] == "config.json"
    assert "tmp" in mounts
    assert "plugins" in json.loads(settings["data"]["config.json"])


def test_both_halves_of_the_plugin_agree() -> None:
    """In single-user mode KFP reads the one, in multi-user mode the other on top of it."""
    config = json.loads((MANIFESTS / "components/kfp-api-server/config.json").read_text())
    server = config["plugins"]["mlflow"]
    launcher = of_kind(render(MANIFESTS / "overlays/kfp-mlflow-plugin"), "ConfigMap")[0]
    ours = json.loads(launcher["data"]["plugins.mlflow"])
    # KFP refuses any other key here: LauncherNamespaceMLflowSettings in backend/src/apiserver/plugins/mlflow.
    allowed = {"experimentDescription", "defaultExperimentName", "injectUserEnvVars", "credentialSecretRef"}
    assert ours.keys() == {"settings"}
    assert ours["settings"].keys() <= allowed
    assert all(server["settings"][key] == value for key, value in ours["settings"].items())
    assert server.keys() <= {"endpoint", "timeout", "tls", "settings"}
    assert "ObjectStoreConfig" in config
    assert "AccessKey" not in config["ObjectStoreConfig"]


def test_a_machine_without_a_renderer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match=r"Install kubectl as https://"):
        rendering.renderer()
