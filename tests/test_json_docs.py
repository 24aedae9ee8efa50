"""docs/json.md tells exactly what the commands print."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from deploy import quickstart as quickstart_module
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.cli import main
from robot_rlpd.registry import entry_points

if TYPE_CHECKING:
    from collections.abc import Callable

    Printed = Callable[..., list[Any]]

PAGE = (Path(__file__).parents[1] / "docs" / "json.md").read_text()
Tree = dict[str, Any]


def documented(section: str, table: int = 0) -> Tree:
    """The fields of one table as a tree; its leaves are empty."""
    (text,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)[table].splitlines()[2:]
    tree: Tree = {}
    for row in rows:
        assert row.count("|") == 5, row
        for name in re.findall(r"`([^`]+)`", row.split("|")[1]):
            node = tree
            for part in name.replace("[]", ".[]").split("."):
                node = node.setdefault(part, {})
    return tree


def differences(printed: Any, tree: Tree, path: str = "") -> list[str]:
    """Where the printed keys are not the documented ones; whatever has no documented keys may hold anything."""
    if not tree or printed is None:
        return []
    if "[]" in tree:
        return [d for entry in printed for d in differences(entry, tree["[]"], f"{path}[]")]
    if "NAME" in tree:
        return [d for value in printed.values() for d in differences(value, tree["NAME"], f"{path}.NAME")]
    found = [f"{path}.{key}" for key in sorted(printed.keys() ^ tree.keys())]
    return found + [
        d for key in printed.keys() & tree.keys() for d in differences(printed[key], tree[key], f"{path}.{key}")
    ]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, a run and its policy, and what each command printed while they were made."""
    directory = tmp_path_factory.mktemp("json")
    store, run = str(directory / "demos.zarr"), str(directory / "run")
    small = (
        "--hidden-dims 4 --ensemble-size 2 --utd-ratio 1 --batch-size 4 --no-compile --eval-every 30 --eval-episodes 1"
    )
    typed = {
        "record": f"record --task reach --episodes 2 --out {store}",
        "train": f"train --task reach --prior {store} --env-steps 30 --start-training 25 {small} --run-dir {run}",
        "export": f"export {run} --out {directory / 'policy.onnx'}",
    }
    for name, words in typed.items():
        with (directory / f"{name}.json").open("w") as file, contextlib.redirect_stdout(file):
            assert main([*words.split(), "--json"]) == 0
    return directory


@pytest.fixture
def printed(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Printed:
    monkeypatch.chdir(here)

    def run(words: str) -> list[Any]:
        capfd.readouterr()
        assert main([*words.split(), "--json"]) == 0
        return [json.loads(line, parse_constant=pytest.fail) for line in capfd.readouterr().out.splitlines()]

    return run


def test_every_command_has_a_section() -> None:
    sections = " ".join(re.findall("^## (.*)$", PAGE, re.MULTILINE))
    missing = [name for name in entry_points("robot_rlpd.commands") if f"`{name.replace('.', ' ')}`" not in sections]
    assert missing == []


@pytest.mark.parametrize("name", ["record", "train", "export"])
def test_what_is_made_is_told_as_documented(name: str, here: Path) -> None:
    assert differences(json.loads((here / f"{name}.json").read_text()), documented(f"`{name}`")) == []


def test_the_evaluation_in_training_is_that_of_eval(here: Path) -> None:
    told = json.loads((here / "train.json").read_text())["evaluation"]
    fields = documented("`eval`")
    del fields["policy"]
    assert differences(told, fields) == []


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("demos info", "demos info demos.zarr"),
        ("demos list", "demos list demos.zarr"),
        ("eval", "eval --policy policy.onnx --task reach --episodes 1"),
        ("sim video", "sim video demos.zarr --task reach --renderer sketch --out video.gif"),
        ("sim drawn", "sim drawn --samples 20 --out drawn.svg"),
        ("sim identify", "sim identify demos.zarr --task reach --evaluations 5 --parameters payload_kg --out id.json"),
        ("plot", "plot run --out curves.svg"),
        ("doctor", "doctor"),
    ],
)
def test_what_is_looked_at_is_told_as_documented(section: str, words: str, printed: Printed) -> None:
    (told,) = printed(words)
    assert differences(told, documented(f"`{section}`")) == []


def test_import_tells_what_is_documented(here: Path, printed: Printed) -> None:
    with h5py.File(here / "demos.hdf5", "w") as file:
        file["observations"], file["actions"] = np.zeros((6, 3), np.float32), np.full((6, 1), 9.0, np.float32)
        file["timeouts"] = np.arange(6) % 3 == 2
    words = "demos import demos.hdf5 --format d4rl --task gymnasium:Pendulum-v1 --out imported.zarr"
    (told,) = printed(words)
    assert differences(told, documented("`demos import`")) == []


def test_verify_tells_what_is_documented(printed: Printed) -> None:
    fields = documented("`verify`")
    (told,) = printed("verify policy.onnx --robot sim:reach")
    assert differences(told, fields) == []
    (told,) = printed("verify policy.onnx --robot sim:reach --checkpoint run --samples 5")
    assert differences(told, fields | documented("`verify`", 1)) == []


def test_run_tells_what_is_documented(printed: Printed) -> None:
    (told,) = printed("run policy.onnx --robot sim:reach --pace fast")
    assert differences(told, documented("`eval`") | documented("`run`")) == []


def test_serve_tells_what_is_documented(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RobotServer, "serve_forever", RobotServer.close)
    began, ended = printed("serve --robot sim:reach --address tcp://127.0.0.1:0")
    assert differences(began, documented("`serve`, when it serves")) == []
    assert differences(ended, documented("`serve`, when it ends")) == []


def test_quickstart_tells_what_is_documented(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    told_by_step = {"successes": 1, "episodes": 2, "ci95": [0.0, 1.0]}
    monkeypatch.setattr(quickstart_module, "run_command", lambda words: dict(told_by_step))
    monkeypatch.setattr(
        quickstart_module, "served_robot", lambda task, log: contextlib.nullcontext("tcp://127.0.0.1:1")
    )
    monkeypatch.setattr("deploy.report.write_report", lambda run_dir, results: run_dir / "report.html")
    (told,) = printed("quickstart --run-dir quick")
    assert differences(told, documented("`quickstart`")) == []
    steps = [value for value in told.values() if isinstance(value, dict)]
    assert len(steps) == 6
    for step in steps:
        assert step.keys() - told_by_step.keys() == documented("`quickstart`", 1).keys()


def test_an_error_tells_what_is_documented(capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert main(["demos", "info", "nowhere", "--json"]) == 1
    assert differences(json.loads(capfd.readouterr().out), documented("Every command, on failure")) == []
