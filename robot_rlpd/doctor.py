"""`robot-rlpd doctor`: what this machine has, and what to do about what it lacks."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from robot_rlpd.registry import entry_points

LIBRARIES = {
    "numpy": "base",
    "zmq": "base",
    "msgspec": "base",
    "onnxruntime": "base",
    "zarr": "base",
    "simplejpeg": "base",
    "mujoco": "sim",
    "gymnasium": "sim",
    "PIL": "sim",
    "h5py": "demos",
    "websockets": "demos",
    "pygame": "teleop",
    "hid": "teleop",
    "torch": "learner",
    "onnx": "learner",
    "matplotlib": "learner",
    "gymnasium_robotics": "robotics",
}
_DISTRIBUTIONS = {
    "zmq": "pyzmq",
    "PIL": "pillow",
    "gymnasium_robotics": "gymnasium-robotics",
    "pygame": "pygame-ce",
    "hid": "hidapi",
}


@dataclass(frozen=True, kw_only=True)
class DoctorCommand:
    """Options of `robot-rlpd doctor`."""

    json: bool = False
    """Print one JSON object on standard output."""


def doctor(command: DoctorCommand) -> int:
    """Tell what is installed and permitted on this machine, and what to do about the rest."""
    found = examine()
    if command.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    lines = [f"Python {found['python']} on {found['machine']}, {found['cores']} cores"]
    for name, library in found["libraries"].items():
        version = library["version"] or f"not installed: pip install 'robot-rlpd[{library['extra']}]'"
        lines.append(f"  {name:<20} {version}")
    lines.append(f"compiler for a faster update: {found['compiler'] or 'none; install g++'}")
    lines.append(f"real-time scheduling: {'permitted' if found['real_time'] else 'not permitted; see ulimit -r'}")
    for group, names in found["registered"].items():
        lines.append(f"{group}: {', '.join(names)}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def examine() -> dict[str, Any]:
    """All findings as plain values."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {platform.system()}",
        "cores": os.cpu_count(),
        "libraries": {name: {"version": _version(name), "extra": extra} for name, extra in LIBRARIES.items()},
        "compiler": shutil.which("g++") or shutil.which("clang++") or "",
        "real_time": _may_run_real_time(),
        "registered": {
            kind: sorted(entry_points(f"robot_rlpd.{kind}"))
            for kind in ("tasks", "robots", "teleop", "converters", "policies", "commands")
        },
    }


def _version(module: str) -> str:
    if importlib.util.find_spec(module) is None:
        return ""
    try:
        return metadata.version(_DISTRIBUTIONS.get(module, module))
    except metadata.PackageNotFoundError:
        return "unknown version"


def _may_run_real_time() -> bool:
    if not hasattr(os, "sched_get_priority_max"):
        return False
    before, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    os.sched_setscheduler(0, before, priority)
    return True
