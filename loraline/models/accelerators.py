"""The memory and native dtype of accelerators: of those in a table, by name, and of this machine's device."""

from pathlib import Path

import psutil
import torch

from loraline.errors import ConfigurationError

_GB = 10**9
ACCELERATORS = {
    "A10G": 24 * _GB,
    "A100-40GB": 40 * _GB,
    "A100-80GB": 80 * _GB,
    "B200": 180 * _GB,
    "GH200": 96 * _GB,
    "H100": 80 * _GB,
    "H200": 141 * _GB,
    "L4": 24 * _GB,
    "L40S": 48 * _GB,
    "MI300X": 192 * _GB,
    "RTX-3090": 24 * _GB,
    "RTX-4090": 24 * _GB,
    "RTX-5090": 32 * _GB,
    "T4": 16 * _GB,
    "V100-16GB": 16 * _GB,
    "V100-32GB": 32 * _GB,
}
"""Memory by the vendors' data sheets, in bytes."""

_WITHOUT_BFLOAT16 = ("T4", "V100-16GB", "V100-32GB")
_RESERVED = 0.06
"""Fraction of a named accelerator's memory for the driver, the CUDA context and fragmentation of the allocator."""
_UNLIMITED = 2**63
_MEMORY_LIMIT, _MEMORY_USED = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))


def named_memory(name: str) -> int:
    """Bytes that a model can use of an accelerator in the table.

    Raises:
        ConfigurationError: it is not in the table.
    """
    if name not in ACCELERATORS:
        raise ConfigurationError(f"accelerator {name!r} is unknown; the known ones are {', '.join(ACCELERATORS)}")
    return int(ACCELERATORS[name] * (1 - _RESERVED))


def named_dtype(name: str) -> torch.dtype:
    """The 16-bit dtype that an accelerator computes in natively."""
    return torch.float16 if name in _WITHOUT_BFLOAT16 else torch.bfloat16


def free_memory(device: torch.device) -> int:
    """Bytes that are free now on a device of this machine. MPS uses the machine's own memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return min(psutil.virtual_memory().available, _free_in_container())


def total_memory(device: torch.device) -> int:
    """Bytes that a device of this machine has in all. MPS uses the machine's own memory."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * (1 - _RESERVED))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return min(psutil.virtual_memory().total, _container_limit())


def _container_limit() -> int:
    """Bytes of the container's memory limit (cgroup v2)."""
    try:
        text = _MEMORY_LIMIT.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return _UNLIMITED
    return _UNLIMITED if text == "max" else int(text)


def _free_in_container() -> int:
    """Bytes that the container's memory limit leaves."""
    limit = _container_limit()
    return limit if limit == _UNLIMITED else limit - int(_MEMORY_USED.read_text(encoding="ascii"))
