"""What a benchmark found and what it ran on, as its output."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "torch", "mujoco", "onnxruntime", "gymnasium", "zarr", "pyzmq")


def machine() -> dict[str, Any]:
    """Processor, cores, Python and the versions of the libraries that matter."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def show_result(result: dict[str, Any], *, as_json: bool) -> None:
    """Print one JSON object, or a line for each entry; with the machine that it was measured on."""
    told = {**result, "machine": machine()}
    text = json.dumps(told) if as_json else "\n".join(f"{name}: {value}" for name, value in told.items())
    sys.stdout.write(text + "\n")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
