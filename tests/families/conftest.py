"""The families that take long are tried with `make test-families`, or `pytest tests/families -m families`."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what has the marker unless `-m` names it."""
    if "families" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("families")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
