"""Who may import what: looked up in the source, and in `sys.modules` after each import in a fresh interpreter.

Modules are found in the tree, so a new file is covered from the day it appears. The layers have contracts of their
own in pyproject.toml; these tests see what a static graph cannot: what an import really loads.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("robot_rlpd", "demos", "deploy", "sim")

LIBRARY_TABLE = {
    "torch": ("robot_rlpd.learner", "deploy.export", "deploy.verify"),
    "mujoco": ("sim",),
    "gymnasium": ("robot_rlpd.env", "robot_rlpd.spaces", "robot_rlpd.bridge.env", "robot_rlpd.learner", "sim"),
    "gymnasium_robotics": ("robot_rlpd.env", "robot_rlpd.learner", "sim"),
    "zarr": ("robot_rlpd.store_arrays", "demos.converters"),
    "h5py": ("demos.converters",),
    "pyarrow": ("demos.converters",),
    "av": ("demos.converters",),
    "zmq": ("robot_rlpd.bridge",),
    "onnxruntime": ("deploy.runtime", "deploy.verify"),
    "websockets": ("demos.web", "deploy.runtime.robots.ros2"),
    "pygame": ("demos.teleop",),
    "hid": ("demos.teleop",),
    "ray": ("robot_rlpd.sweep.engine",),
}
LIBRARIES = tuple(LIBRARY_TABLE)
ENVIRONMENTS = ("robot_rlpd.env", "robot_rlpd.spaces", "robot_rlpd.bridge.env")

IMPORT_EACH = """
import importlib, json, sys
libraries, modules = json.loads(sys.argv[1])
brought, seen = {}, set()
for module in modules:
    importlib.import_module(module)
    new = {library for library in libraries if library in sys.modules} - seen
    seen |= new
    if new:
        brought[module] = sorted(new)
print(json.dumps(brought))
"""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def modules_in(*packages: str, but: tuple[str, ...] = ()) -> list[str]:
    return [module for module in MODULES if is_in(module, packages) and not is_in(module, but)]


def brought_by(modules: list[str], libraries: tuple[str, ...]) -> dict[str, list[str]]:
    """Which module was the first to load which of the libraries, in one fresh interpreter."""
    program = [sys.executable, "-c", IMPORT_EACH, json.dumps([libraries, modules])]
    result = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    brought: dict[str, list[str]] = json.loads(result.stdout.splitlines()[-1])
    return brought


def imported_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every absolute import, inside functions too, and those spelled as a string: dotted name and line."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=str(name), level=0):
                yield name, node.lineno
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name, node.lineno


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def test_every_package_file_is_found() -> None:
    assert set(PACKAGES) <= set(MODULES)
    assert "robot_rlpd.specs" in MODULES


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_only_where_the_table_allows(library: str) -> None:
    offenders = [
        f"{path.relative_to(ROOT)}:{line}"
        for module, path in MODULES.items()
        if not is_in(module, LIBRARY_TABLE[library])
        for name, line in imported_names(parse(path))
        if name.partition(".")[0] == library
    ]
    assert not offenders


def test_package_init_files_import_nothing() -> None:
    inits = [path for path in MODULES.values() if path.name == "__init__.py"]
    offenders = [str(path.relative_to(ROOT)) for path in inits if list(imported_names(parse(path)))]
    assert not offenders


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in MODULES.values()}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_tests_hold_no_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_marked_as_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


def declared_targets() -> list[str]:
    """Every `module:name` that pyproject.toml promises."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["scripts"], *project["entry-points"].values()]
    return sorted({target for group in groups for target in group.values()})


@pytest.mark.parametrize("target", declared_targets())
def test_an_entry_point_names_a_function_that_exists(target: str) -> None:
    module, _, name = target.partition(":")
    assert module in MODULES
    assert name in {node.name for node in parse(MODULES[module]).body if isinstance(node, ast.FunctionDef)}


def test_ground_floor_bridge_and_runtime_load_no_heavy_library() -> None:
    modules = modules_in("robot_rlpd", "deploy.runtime", but=("robot_rlpd.learner", *ENVIRONMENTS))
    assert not brought_by(modules, ("torch", "mujoco", "gymnasium", "h5py"))


def test_the_episode_library_is_loaded_only_when_needed() -> None:
    stores = (
        "episode_store",
        "store_arrays",
        "store_format",
        "store_compact",
        "store_salvage",
        "store_repair",
        "whole_store",
    )
    above = ("robot_rlpd.learner", *ENVIRONMENTS, *(f"robot_rlpd.{name}" for name in stores))
    assert not brought_by(modules_in("robot_rlpd", "deploy.runtime", but=above), ("zarr",))


def test_the_environment_module_loads_gymnasium_and_nothing_heavier() -> None:
    brought = brought_by(modules_in(*ENVIRONMENTS), ("torch", "mujoco", "h5py", "zarr"))
    assert not brought


def test_tasks_load_no_learner_and_no_file_format() -> None:
    assert not brought_by(modules_in("sim"), ("torch", "h5py"))


def test_demos_load_no_learner_and_no_simulator() -> None:
    assert not brought_by(modules_in("demos", but=("demos.converters",)), ("torch", "mujoco", "gymnasium", "h5py"))
    assert not brought_by(modules_in("demos.converters"), ("torch", "mujoco", "gymnasium"))
