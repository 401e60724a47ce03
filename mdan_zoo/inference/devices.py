"""Device selection: the requested torch device, or an error that lists the available ones."""

from __future__ import annotations

import torch

from mdan_zoo.errors import DeviceError


def find_device(device: str | torch.device | None) -> torch.device:
    """Return a device that is available; by default CUDA if available, else the CPU.

    Raises:
        DeviceError: The device is not available; the message lists those that are.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()  # raises unless the device can hold values
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]  # torch's messages are long
        raise DeviceError(
            f"device {device!r} is not available ({reason}); available: {', '.join(_devices())}"
        ) from error
    return found


def _devices() -> list[str]:
    if not torch.accelerator.is_available():
        return ["cpu"]
    accelerator = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count()
    return ["cpu", *(f"{accelerator}:{index}" for index in range(count))]
