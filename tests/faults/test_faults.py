"""Each way to go wrong is rejected or stopped with the reason that names it, and the same run without it passes."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from loraline import storage, tracking
from loraline.errors import LoralineError, ValidationError
from loraline.evidence.schema import Evidence
from loraline.registry.promote import promote
from loraline.registry.versions import version_with_alias
from tests.faults.faults import FAULTS, WRONG_MERGES, Fault, chance, four_bits, half_hearted, recipe
from tests.faults.steps import fine_tune, register
from tests.faults.world import World, make_world


@pytest.fixture(scope="module", autouse=True)
def _services(s3_server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The object store and a tracking server's database, for all tests of this module."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_server.items():
            environment.setenv(name, value)
        environment.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")
        environment.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def honest(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evidence]:
    """A run without a fault: its folder, and its evidence."""
    folder = tmp_path_factory.mktemp("honest")
    return folder, fine_tune(recipe(world, folder, seed=0), folder / "run")


def reasons(world: World, folder: Path, fault: Fault, seed: int = 0) -> str:
    """Why a run with a fault is rejected: the verdict's reasons, or the error that ended it."""
    try:
        evidence = fine_tune(recipe(world, folder, seed, fault), folder / "run", fault.plants)
    except LoralineError as error:
        return str(error)
    assert evidence.verdict.verdict == "reject", evidence.verdict.reasons
    return "\n".join(evidence.verdict.reasons)


def test_an_honest_run_passes(honest: tuple[Path, Evidence]) -> None:
    _, evidence = honest
    assert evidence.verdict.verdict == "promote", evidence.verdict.reasons
    assert not any(check.failed for check in evidence.checks)
    assert evidence.verdict.not_measured == ["champion"]


def test_an_honest_run_in_four_bits_passes(world: World, tmp_path: Path) -> None:
    evidence = fine_tune(recipe(world, tmp_path, 0, four_bits), tmp_path / "run")
    assert evidence.verdict.verdict == "promote", evidence.verdict.reasons
    assert evidence.merge
    assert evidence.merge.quantized
    assert evidence.merge.quantized.quantization == "nf4"
    assert evidence.tuned
    assert evidence.tuned.weights.merged_digest == evidence.merge.merged_digest  # and not the adapter on the nf4 base
    assert evidence.verdict.evaluated_as == "merged weights in float32"


@pytest.mark.parametrize("fault", [*FAULTS, *WRONG_MERGES[:2]], ids=lambda fault: fault.name)
def test_a_fault_is_named(fault: Fault, world: World, tmp_path: Path) -> None:
    stated = reasons(world, tmp_path, fault)
    assert re.search(fault.named, stated), stated


def test_what_is_better_by_chance_alone_is_rejected(world: World, tmp_path: Path) -> None:
    for seed in range(10):
        folder = tmp_path / str(seed)
        evidence = fine_tune(recipe(world, folder, seed, chance), folder / "run")
        assert evidence.verdict.verdict == "reject"
        if evidence.verdict.gain and evidence.verdict.gain > 0:
            assert re.search(chance.named, "\n".join(evidence.verdict.reasons)), evidence.verdict.reasons
            return
    pytest.fail("no run came out better by chance: the test shows nothing")


@pytest.fixture(scope="module")
def champion(honest: tuple[Path, Evidence], world: World) -> str:
    """The honest run's model, registered and promoted; its address in the registry."""
    folder, _ = honest
    register(recipe(world, folder, seed=0), folder / "run")
    return promote("faults").source


def test_a_bundle_that_was_tampered_with_moves_no_alias(champion: str, world: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    honest_again = recipe(world, tmp_path, seed=1)
    evidence = fine_tune(honest_again, run)
    assert evidence.verdict.verdict == "promote", evidence.verdict.reasons
    register(honest_again, run)
    address = f"{registered('challenger')}/evidence/evidence.json"
    [bundle] = storage.download(address, tmp_path / "fetched")
    untouched = bundle.read_bytes()
    bundle.write_bytes(untouched.replace(b'"confidence": 0.95', b'"confidence": 0.59'))
    storage.upload(bundle, address)
    with pytest.raises(ValidationError, match="no proof that stands"):
        promote("faults")
    assert registered("champion") == champion
    bundle.write_bytes(untouched)
    storage.upload(bundle, address)
    assert promote("faults").source != champion


def registered(alias: str) -> str:
    version = version_with_alias(tracking.connect(), "faults", alias)
    assert version
    return str(version.source)


def test_a_model_that_is_better_than_the_base_but_not_than_the_champion_is_rejected(
    champion: str, world: World, tmp_path: Path
) -> None:
    stated = reasons(world, tmp_path, half_hearted)
    assert re.search(half_hearted.named, stated), stated
