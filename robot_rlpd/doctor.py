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
from pathlib import Path
from typing import Any

from robot_rlpd.machine import advice, may_run_real_time, round_trip_us, timing
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
    "ray": "sweep",
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

    robot: Path | None = None
    """Robot file to check: it is read, the robot is opened and not moved."""
    learner: str = ""
    """Address of the learner, or of a served robot, to measure the way to: tcp://HOST:PORT or ipc://PATH."""
    json: bool = False
    """Print one JSON object on standard output."""


def doctor(command: DoctorCommand) -> int:
    """Tell what is installed and permitted on this machine, and what to do about the rest."""
    found = examine()
    if command.learner:
        found["learner"] = {"address": command.learner, "round_trip_us": round_trip_us(command.learner)}
    if command.robot is not None:
        found["robot"] = examine_robot(command.robot)
    if command.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    lines = [f"Python {found['python']} on {found['machine']}, {found['cores']} cores"]
    for name, library in found["libraries"].items():
        version = library["version"] or f"not installed: pip install 'robot-rlpd[{library['extra']}]'"
        lines.append(f"  {name:<20} {version}")
    lines.append(f"compiler for a faster update: {found['compiler'] or 'none; install g++'}")
    lines += _told_timing(found)
    for group, names in found["registered"].items():
        lines.append(f"{group}: {', '.join(names)}")
    if command.learner:
        way = found["learner"]["round_trip_us"]
        lines.append(f"way to {command.learner}: {way['p50']:.0f} us, at most {way['max']:.0f} us")
    if command.robot is not None:
        lines += _told_robot(command.robot, found["robot"])
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
        "real_time": may_run_real_time(),
        "timing": timing(),
        "registered": {
            kind: sorted(entry_points(f"robot_rlpd.{kind}"))
            for kind in ("tasks", "robots", "teleop", "converters", "policies", "commands")
        },
    }


def examine_robot(path: Path) -> dict[str, Any]:
    """Read a robot's file, open the robot, and see whether its limits can hold it; it is not moved.

    Raises:
        RobotRlpdError: What is wrong with the file or the robot.
    """
    from robot_rlpd.limits import measured_entry, quantity_of
    from robot_rlpd.robot_file import make_robot, read_robot_file
    from robot_rlpd.specs import to_builtins
    from robot_rlpd.task import TaskOptions

    described = read_robot_file(path)
    with make_robot(str(path), TaskOptions()) as robot:
        spec = robot.spec
    components = {}
    for component in spec.action.components:
        limits = described.limits.get(component.name)
        entry = measured_entry(spec, component, limits.measured if limits else "")
        components[component.name] = {
            "quantity": quantity_of(component),
            "unit": component.unit,
            "bounds": [component.low, component.high],
            "measured": None if entry is None else f"{entry[0]}[{entry[1]}]",
            "limits": None if limits is None else to_builtins(limits),
        }
    return {
        "file": str(path),
        "driver": described.robot,
        "name": spec.name,
        "control_rate_hz": spec.control_rate_hz,
        "fingerprint": spec.fingerprint,
        "components": components,
        "workspace": to_builtins(described.workspace),
        "watch": to_builtins(described.watch),
    }


def _told_timing(found: dict[str, Any]) -> list[str]:
    timing, late = found["timing"], found["timing"]["oversleep_us"]
    kernel = "real-time kernel" if timing["real_time_kernel"] else "ordinary kernel"
    governors = ", ".join(timing["governors"]) or "not told"
    return [
        f"real-time scheduling: {'permitted' if found['real_time'] else 'not permitted'}, {kernel}",
        f"clock: {timing['clock_source'] or 'not told'}; a thread wakes up {late['p50']:.0f} us late, "
        f"at most {late['max']:.0f} us; processor frequency: {governors}",
        *(f"  {line}" for line in advice(timing, real_time=found["real_time"])),
    ]


def _told_robot(path: Path, robot: dict[str, Any]) -> list[str]:
    lines = [f"{path}: robot '{robot['name']}' ({robot['driver']}), {robot['control_rate_hz']:g} Hz, ok"]
    for name, component in robot["components"].items():
        low, high = component["bounds"]
        limits = component["limits"] or {}
        more = ", ".join(f"{key} {value}" for key, value in limits.items() if value not in (None, "", 0.0))
        unit = f" {component['unit']}" if component["unit"] else ""
        lines.append(f"  {name:<20} {component['quantity']}, {low:g} to {high:g}{unit}; {more or 'no further limits'}")
    if not robot["watch"].get("command_timeout_s"):
        lines.append("  nothing watches for a silent commander: set command_timeout_s under [watch]")
    return lines


def _version(module: str) -> str:
    if importlib.util.find_spec(module) is None:
        return ""
    try:
        return metadata.version(_DISTRIBUTIONS.get(module, module))
    except metadata.PackageNotFoundError:
        return "unknown version"
