"""Devices: the device that a predictor runs on, checked when it is created."""

from __future__ import annotations

import torch

from mdan_zoo.errors import DeviceError


def find_device(device: str | torch.device | None) -> torch.device:
    """Return a device that can hold values; by default CUDA if available, else the CPU.

    Raises:
        DeviceError: The device is not available; the message lists those that are.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = ["cpu"]
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        known += [f"{kind}:{index}" for index in range(torch.accelerator.device_count())]
    available = f"available: {', '.join(known)}"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"unknown device {device!r}; {available}") from error
    try:
        torch.zeros(1, device=found).cpu()  # raises unless the device can hold values
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]  # torch's messages are long
        raise DeviceError(f"device {device!r} is not available ({reason}); {available}") from error
    return found
