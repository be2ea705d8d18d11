"""What the double of KFP remembers: pipelines, versions, experiments, runs and recurring runs."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import unquote

import kfp_server_api as api
import yaml

from tests.pipelines.client.models import read

_BASE = "/apis/v2beta1/"
NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""What the real server says for the end of a task that has not ended."""


class Refused(Exception):  # noqa: N818
    """An error of KFP's: an HTTP status, a gRPC code and words."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class State:
    """Serves calls from memory."""

    def __init__(self) -> None:
        self.pipelines: dict[str, Any] = {}
        self.versions: dict[str, Any] = {}
        self.experiments: dict[str, Any] = {}
        self.runs: dict[str, Any] = {}
        self.recurring: dict[str, Any] = {}
        self.frames: list[tuple[str, dict[str, str]]] = []
        """How runs go: with each look at a run, it is in the next of these states, and its tasks are in those."""
        self._clock = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

    def serve(
        self, method: str, path: str, query: dict[str, str], body: Any, upload: str | None, multi_user: bool
    ) -> Any:
        """Carry out a call; returns one of KFP's models, or None for an empty answer."""
        place, _, verb = unquote(path).removeprefix(_BASE).partition(":")
        kind, *ids = place.split("/")
        name = "_".join([method.lower(), kind, *([str(len(ids))] if ids and ids[0] not in self._fixed else ids)])
        call: Callable[..., Any] | None = getattr(self, f"_{name}{'_' + verb if verb else ''}", None)
        assert call, f"the double does not know {method} {path}"
        if method == "GET" and not ids and multi_user and not (query.get("namespace") or query.get("experiment_id")):
            raise Refused(400, 3, "Invalid input error: A namespace is needed in multi-user mode")
        if query.get("namespace") and not multi_user:
            raise Refused(400, 3, "Invalid input error: In single-user mode, a namespace cannot be given")
        return call(ids=ids, query=query, body=body, upload=upload)

    _fixed = ("upload", "upload_version")

    # ---- pipelines and versions

    def _get_pipelines(self, query: dict[str, str], **_: Any) -> Any:
        page, token, total = _page(self.pipelines, query)
        return api.V2beta1ListPipelinesResponse(pipelines=page, next_page_token=token, total_size=total)

    def _post_pipelines(self, body: Any, **_: Any) -> Any:
        made = read("V2beta1Pipeline", body)
        if any(one.name == made.name for one in self.pipelines.values()):
            raise Refused(409, 6, f"Already exist error: The name {made.name} already exist")
        return self._keep(self.pipelines, made, "pipeline_id")

    def _post_pipelines_upload_version(self, query: dict[str, str], upload: str | None, **_: Any) -> Any:
        pipeline_id, name = query["pipelineid"], query["name"]
        _known(self.pipelines, pipeline_id, "Pipeline")
        if any(one.pipeline_id == pipeline_id and one.name == name for one in self.versions.values()):
            raise Refused(409, 6, "Failed to create a pipeline version")
        made = api.V2beta1PipelineVersion(
            pipeline_id=pipeline_id,
            name=name,
            display_name=name,
            description=query.get("description"),
            pipeline_spec=_spec(upload or ""),
        )
        return self._keep(self.versions, made, "pipeline_version_id")

    def _get_pipelines_2(self, ids: list[str], query: dict[str, str], **_: Any) -> Any:
        _known(self.pipelines, ids[0], "Pipeline")
        of_it = {key: one for key, one in self.versions.items() if one.pipeline_id == ids[0]}
        page, token, total = _page(of_it, query)
        return api.V2beta1ListPipelineVersionsResponse(pipeline_versions=page, next_page_token=token, total_size=total)

    def _get_pipelines_3(self, ids: list[str], **_: Any) -> Any:
        return _known(self.versions, ids[2], "PipelineVersion")

    # ---- experiments

    def _get_experiments(self, query: dict[str, str], **_: Any) -> Any:
        page, token, total = _page(self.experiments, query)
        return api.V2beta1ListExperimentsResponse(experiments=page, next_page_token=token, total_size=total)

    def _get_experiments_1(self, ids: list[str], **_: Any) -> Any:
        return _known(self.experiments, ids[0], "Experiment")

    def _post_experiments(self, body: Any, **_: Any) -> Any:
        return self._keep(self.experiments, read("V2beta1Experiment", body), "experiment_id")

    # ---- runs

    def _get_runs(self, query: dict[str, str], **_: Any) -> Any:
        of_it = {k: r for k, r in self.runs.items() if query.get("experiment_id") in (None, r.experiment_id)}
        page, token, total = _page(of_it, query)
        return api.V2beta1ListRunsResponse(runs=page, next_page_token=token, total_size=total)

    def _post_runs(self, body: Any, **_: Any) -> Any:
        run = read("V2beta1Run", body)
        _known(self.experiments, run.experiment_id, "Experiment")
        version = _known(self.versions, run.pipeline_version_reference.pipeline_version_id, "PipelineVersion")
        _check_arguments(version, run.runtime_config.parameters)
        run.state = "PENDING"
        return self._keep(self.runs, run, "run_id")

    def _get_runs_1(self, ids: list[str], **_: Any) -> Any:
        run = _known(self.runs, ids[0], "Run")
        if self.frames:
            run.state, tasks = self.frames.pop(0)
            run.run_details = api.V2beta1RunDetails(task_details=[_task(run, *task) for task in tasks.items()])
        return run

    def _post_runs_1_terminate(self, ids: list[str], **_: Any) -> None:
        _known(self.runs, ids[0], "Run").state = "CANCELING"

    # ---- recurring runs

    def _get_recurringruns(self, query: dict[str, str], **_: Any) -> Any:
        of_it = {k: r for k, r in self.recurring.items() if query.get("experiment_id") in (None, r.experiment_id)}
        page, token, total = _page(of_it, query)
        return api.V2beta1ListRecurringRunsResponse(recurring_runs=page, next_page_token=token, total_size=total)

    def _post_recurringruns(self, body: Any, **_: Any) -> Any:
        made = read("V2beta1RecurringRun", body)
        _known(self.pipelines, made.pipeline_version_reference.pipeline_id, "Pipeline")
        assert 1 <= int(made.max_concurrency) <= 10
        made.status = "ENABLED" if made.mode == "ENABLE" else "DISABLED"
        return self._keep(self.recurring, made, "recurring_run_id")

    def _post_recurringruns_1_disable(self, ids: list[str], **_: Any) -> None:
        _known(self.recurring, ids[0], "RecurringRun").status = "DISABLED"

    def _post_recurringruns_1_enable(self, ids: list[str], **_: Any) -> None:
        _known(self.recurring, ids[0], "RecurringRun").status = "ENABLED"

    def _delete_recurringruns_1(self, ids: list[str], **_: Any) -> None:
        _known(self.recurring, ids[0], "RecurringRun")
        del self.recurring[ids[0]]

    def _keep(self, table: dict[str, Any], made: Any, id_field: str) -> Any:
        self._clock += timedelta(minutes=1)
        made.created_at = self._clock
        setattr(made, id_field, str(uuid.uuid4()))
        table[getattr(made, id_field)] = made
        return made


@cache
def _spec(package: str) -> dict[str, Any]:
    """The spec as the real server keeps it; one with settings for Kubernetes is wrapped once more."""
    documents = list(yaml.safe_load_all(package))
    return documents[0] if len(documents) == 1 else {"pipeline_spec": documents[0], "platform_spec": documents[1]}


def _known(table: dict[str, Any], key: str | None, what: str) -> Any:
    if key not in table:
        raise Refused(404, 5, f"ResourceNotFoundError: {what} {key} not found")
    return table[key]


def _page(table: dict[str, Any], query: dict[str, str]) -> tuple[list[Any], str | None, int]:
    """Filtered, sorted and cut as the query asks; the token of the next page is its offset."""
    found = list(table.values())
    if query.get("filter"):
        wanted = read("V2beta1Filter", _as_the_gateway_reads(json.loads(query["filter"])))
        for predicate in wanted.predicates:
            assert predicate.operation == "EQUALS"
            found = [one for one in found if getattr(one, predicate.key) == predicate.string_value]
    key, _, order = query.get("sort_by", "").partition(" ")
    if key:
        found.sort(key=lambda one: getattr(one, key), reverse=order == "desc")
    start, size = int(query.get("page_token") or 0), int(query.get("page_size") or 10)
    token = str(start + size) if start + size < len(found) else None
    return found[start : start + size], token, len(found)


def _as_the_gateway_reads(written: dict[str, Any]) -> dict[str, Any]:
    """kfp's client writes filters in protobuf's JSON, whose other spellings the server takes as well."""
    operations = {1: "EQUALS"}
    return {
        "predicates": [
            {"string_value" if k == "stringValue" else k: operations.get(v, v) for k, v in one.items()}
            for one in written["predicates"]
        ]
    }


def _task(run: Any, name: str, state: str) -> Any:
    """A task as the real server tells it: neither its pod nor its error is ever filled in."""
    over = state in ("SUCCEEDED", "FAILED", "SKIPPED")
    start = run.created_at
    return api.V2beta1PipelineTaskDetail(
        run_id=run.run_id,
        task_id=str(uuid.uuid4()),
        display_name=name,
        create_time=start,
        start_time=start,
        end_time=start + timedelta(seconds=12) if over else NEVER,
        state=state,
        execution_id="0",
    )


def _check_arguments(version: Any, given: dict[str, Any]) -> None:
    """Refuse what the real server refuses: unknown names, and missing ones that have no default."""
    spec = version.pipeline_spec.get("pipeline_spec", version.pipeline_spec)
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    unknown = set(given) - set(declared)
    missing = {n for n, one in declared.items() if "defaultValue" not in one and not one.get("isOptional")} - set(given)
    if unknown or missing:
        raise Refused(400, 3, f"Invalid input error: unknown {sorted(unknown)}, missing {sorted(missing)}")
