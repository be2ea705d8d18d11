"""The double itself: it is held to KFP's contract, and to KFP's models where the contract is not at hand."""

import kfp_server_api as api
import pytest

from loraline.errors import ClusterError
from pipelines.client.connection import Cluster
from tests.pipelines.client.contract import FILE, Contract, ContractError
from tests.pipelines.client.models import ModelError, read, write
from tests.pipelines.client.server import KfpServer

needs_contract = pytest.mark.skipif(not FILE.is_file(), reason=f"KFP's official contract is not at {FILE}")


@needs_contract
def test_every_request_of_the_other_tests_is_checked_against_the_contract(server: KfpServer) -> None:
    assert server.contract is not None


@needs_contract
@pytest.mark.parametrize(
    ("method", "path", "query", "body", "words"),
    [
        ("GET", "/apis/v2beta1/jobs", {}, None, "no call GET"),
        ("GET", "/apis/v2beta1/runs", {"limit": "3"}, None, "no query parameter 'limit'"),
        ("GET", "/apis/v2beta1/runs", {"page_size": "many"}, None, "no integer"),
        ("POST", "/apis/v2beta1/runs", {}, None, "body None"),
        ("POST", "/apis/v2beta1/runs", {}, {"title": "x"}, "'title' was unexpected"),
        ("POST", "/apis/v2beta1/runs", {}, {"state": "DONE"}, "'DONE' is not one of"),
        ("POST", "/apis/v2beta1/recurringruns", {}, {"max_concurrency": 1}, "is not of type 'string'"),
        ("POST", "/apis/v2beta1/recurringruns", {}, {"created_at": "today"}, "is not a 'date-time'"),
        ("POST", "/apis/v2beta1/pipelines/upload_version", {"name": "v"}, None, "files"),
    ],
)
def test_the_contract_refuses_what_it_does_not_have(
    method: str, path: str, query: dict[str, str], body: object, words: str
) -> None:
    contract = Contract()
    with pytest.raises(ContractError, match=words):
        contract.check_request(contract.operation(method, path), query, body, set())


@needs_contract
def test_the_contract_refuses_a_wrong_answer() -> None:
    contract = Contract()
    call = contract.operation("GET", "/apis/v2beta1/runs/some-id")
    contract.check_answer(call, 200, {"run_id": "some-id", "state": "RUNNING"})
    contract.check_answer(call, 404, {"code": 5, "message": "not found"})
    for status, body in ((200, {"id": "x"}), (200, []), (404, {"code": "five"})):
        with pytest.raises(ContractError):
            contract.check_answer(call, status, body)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("V2beta1Run", {"title": "x"}),
        ("V2beta1Run", {"state": "DONE"}),
        ("V2beta1Run", {"runtime_config": {"args": {}}}),
        ("V2beta1RecurringRun", {"max_concurrency": 1}),
        ("V2beta1ListRunsResponse", {"runs": [{"nonsense": 1}]}),
    ],
)
def test_kfps_models_refuse_what_they_do_not_have(kind: str, value: object) -> None:
    with pytest.raises(ModelError):
        read(kind, value)


def test_kfps_models_do_not_write_what_they_could_not_read() -> None:
    assert write(api.V2beta1Run(run_id="x", state="RUNNING")) == {"run_id": "x", "state": "RUNNING"}
    with pytest.raises(ModelError):
        write(api.V2beta1Run(run_id=3))


def test_the_double_refuses_and_remembers_a_request_that_is_wrong(cluster: Cluster, server: KfpServer) -> None:
    wrong = api.V2beta1Experiment(display_name=3)
    with pytest.raises(ClusterError, match="refuses POST"):
        cluster.client.experiments.experiment_service_create_experiment(experiment=wrong)
    assert len(server.violations) == 1
    server.violations.clear()
