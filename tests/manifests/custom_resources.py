"""Custom resources, field by field: no package carries their schemas, so what we use of them is written down here.

But for Kubeflow Trainer's, which come with the package kubeflow-trainer-api.

Kueue: apis/kueue/v1beta2/*_types.go of kubernetes-sigs/kueue, with the bounds of its kubebuilder markers.
ServiceMonitor: pkg/apis/monitoring/v1 of prometheus-operator. A field that is not here is refused: look it up, add it.
"""
# ruff: noqa: N815 - the fields' names are Kubernetes'

import json
from typing import Annotated, Any, Literal

from kubeflow_trainer_api.models import TrainerV1alpha1TrainingRuntime
from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
Quantity = Annotated[str | int, Field(union_mode="left_to_right")]
Labels = dict[str, str]


class Strict(BaseModel):
    """Refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Strict):
    name: Name
    namespace: Name | None = None
    labels: Labels = {}
    annotations: Labels = {}


class ClusterMetadata(Metadata):
    namespace: None = None


class NamespacedMetadata(Metadata):
    namespace: Name


class Expression(Strict):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = []


class LabelSelector(Strict):
    matchLabels: Labels = {}
    matchExpressions: list[Expression] = []


class Toleration(Strict):
    key: str
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="after")
    def _exists_has_no_value(self) -> "Toleration":
        assert self.operator == "Equal" or self.value is None, "a value must be empty when operator is Exists"
        return self


class FlavorSpec(Strict):
    nodeLabels: Annotated[Labels, Field(max_length=8)] = {}
    tolerations: Annotated[list[Toleration], Field(max_length=8)] = []


class ResourceFlavor(Strict):
    apiVersion: Literal["kueue.x-k8s.io/v1beta2"]
    kind: Literal["ResourceFlavor"]
    metadata: ClusterMetadata
    spec: FlavorSpec = FlavorSpec()


class FlavorResource(Strict):
    name: str
    nominalQuota: Quantity


class FlavorQuotas(Strict):
    name: Name
    resources: Annotated[list[FlavorResource], Field(min_length=1, max_length=64)]


class ResourceGroup(Strict):
    coveredResources: Annotated[list[str], Field(min_length=1, max_length=64)]
    flavors: Annotated[list[FlavorQuotas], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _each_flavor_covers_all_in_order(self) -> "ResourceGroup":
        for flavor in self.flavors:
            assert [r.name for r in flavor.resources] == self.coveredResources, flavor.name
        return self


class Preemption(Strict):
    reclaimWithinCohort: Literal["Never", "LowerPriority", "Any"] = "Never"
    withinClusterQueue: Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority"] = "Never"


class ClusterQueueSpec(Strict):
    namespaceSelector: LabelSelector
    queueingStrategy: Literal["StrictFIFO", "BestEffortFIFO"] = "BestEffortFIFO"
    preemption: Preemption = Preemption()
    resourceGroups: Annotated[list[ResourceGroup], Field(min_length=1, max_length=16)]


class ClusterQueue(Strict):
    apiVersion: Literal["kueue.x-k8s.io/v1beta2"]
    kind: Literal["ClusterQueue"]
    metadata: ClusterMetadata
    spec: ClusterQueueSpec


class LocalQueueSpec(Strict):
    clusterQueue: Name


class LocalQueue(Strict):
    apiVersion: Literal["kueue.x-k8s.io/v1beta2"]
    kind: Literal["LocalQueue"]
    metadata: NamespacedMetadata
    spec: LocalQueueSpec


class WorkloadPriorityClass(Strict):
    apiVersion: Literal["kueue.x-k8s.io/v1beta2"]
    kind: Literal["WorkloadPriorityClass"]
    metadata: ClusterMetadata
    value: Annotated[int, Field(ge=-(2**31), lt=2**31)]
    description: Annotated[str, Field(max_length=2048)] = ""


class SecretKey(Strict):
    name: Name
    key: str


class BasicAuth(Strict):
    username: SecretKey
    password: SecretKey


class Endpoint(Strict):
    port: str
    path: Annotated[str, Field(pattern="^/")]
    interval: Annotated[str, Field(pattern=r"^([0-9]+(ms|s|m|h))+$")]
    basicAuth: BasicAuth | None = None


class ServiceMonitorSpec(Strict):
    selector: LabelSelector
    endpoints: Annotated[list[Endpoint], Field(min_length=1)]


class ServiceMonitor(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["ServiceMonitor"]
    metadata: NamespacedMetadata
    spec: ServiceMonitorSpec


class TrainingRuntime(RootModel[dict[str, Any]]):
    @model_validator(mode="after")
    def _is_one(self) -> "TrainingRuntime":
        """The official models leave out what they do not know: nothing may be missing from what comes back."""
        model = TrainerV1alpha1TrainingRuntime.from_dict(self.root)
        assert model is not None
        assert json.loads(model.to_json()) == self.root, "a field that Kubeflow Trainer does not know"
        return self


KNOWN: dict[str, type[BaseModel]] = {
    kind.__name__: kind
    for kind in (ResourceFlavor, ClusterQueue, LocalQueue, WorkloadPriorityClass, ServiceMonitor, TrainingRuntime)
}
