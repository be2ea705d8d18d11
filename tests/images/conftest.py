"""Fixtures: a Docker engine, and both images. Opt-in: `make test-containers`, or `pytest -m containers`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.images import engine

ROOT = Path(__file__).parents[2]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "containers: builds and runs the images; needs Docker, or root on Debian")


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[engine.Engine]:
    """This machine's engine, or one that is started for this session."""
    try:
        with engine.engine(tmp_path_factory.mktemp("docker")) as running:
            yield running
    except engine.NoEngineError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def images(docker: engine.Engine) -> dict[str, str]:
    """Both images: `light` and `gpu` -> name."""
    try:
        base = engine.base_image(docker, ROOT)
    except engine.NoEngineError as reason:
        pytest.skip(str(reason))
    with ThreadPoolExecutor() as pool:  # stages that both share are still built once
        light, gpu = (pool.submit(engine.built, docker, ROOT, image, base) for image in ("light", "gpu"))
        return {"light": light.result(), "gpu": gpu.result()}


@pytest.fixture(scope="session")
def has_cuda(docker: engine.Engine, images: dict[str, str]) -> bool:
    """Whether the gpu image has the CUDA build of torch, because the package index has no CPU build."""
    script = "import importlib.metadata as m; print(m.version('torch'))"
    return "+cpu" not in docker.run("run", "--rm", images["gpu"], "python3", "-c", script)
