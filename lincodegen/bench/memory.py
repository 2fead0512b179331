"""How much memory of a device is free."""

from __future__ import annotations

from pathlib import Path

import torch


def free_bytes(device: torch.device) -> int:
    """Bytes that can be had without others giving any up; no limit where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    info = Path("/proc/meminfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    found = [int(x.split()[1]) for x in lines if x.startswith("MemAvailable:")]
    return found[0] * 1024 if found else 1 << 62
