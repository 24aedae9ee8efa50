"""docs/json.md tells exactly what the commands print."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from deploy import quickstart as quickstart_module
from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.courier import Courier
from robot_rlpd.bridge.episodes import Inbox
from robot_rlpd.bridge.learner_server import LearnerServer
from robot_rlpd.bridge.outbox import Outbox
from robot_rlpd.bridge.policies import Shelf
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.cli import main
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.registry import entry_points
from robot_rlpd.specs import ArraySpec
from robot_rlpd.testing import FakeRobot

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
        "record": f"record --task reach --episodes 3 --out {store}",
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
        ("demos stats", "demos stats demos.zarr"),
        ("demos validate", "demos validate demos.zarr"),
        ("demos repair", "demos repair demos.zarr"),
        ("demos replay", "demos replay demos.zarr 0"),
        ("demos merge", "demos merge demos.zarr --out merged.zarr"),
        ("demos split", "demos split demos.zarr 0 --out one.zarr --rest other.zarr"),
        ("demos export", "demos export demos.zarr --format d4rl --out exported.hdf5"),
        ("eval", "eval --policy policy.onnx --task reach --episodes 1"),
        ("sim video", "sim video demos.zarr --task reach --renderer sketch --out video.gif"),
        ("sim drawn", "sim drawn --samples 20 --out drawn.svg"),
        ("sim identify", "sim identify demos.zarr --task reach --evaluations 5 --parameters payload_kg --out id.json"),
        ("sim calibrate", "sim calibrate demos.zarr --task reach --out calibration.json --corrected right.zarr"),
        ("plot", "plot run --out curves.svg"),
        ("doctor", "doctor"),
    ],
)
def test_what_is_looked_at_is_told_as_documented(section: str, words: str, printed: Printed) -> None:
    (told,) = printed(words)
    assert differences(told, documented(f"`{section}`")) == []


def test_edits_tell_what_is_documented(printed: Printed) -> None:
    printed("demos merge demos.zarr --out edited.zarr")
    for words in ("trim 1 --start 1", "relabel all --success false", "delete 0", "undo", "undo --list", "compact"):
        command, *rest = words.split()
        (told,) = printed(f"demos {command} edited.zarr {' '.join(rest)}")
        assert differences(told, documented(f"`demos {command}`")) == []


def test_damage_and_a_video_are_told_as_documented(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    camera = ArraySpec(name="front", shape=(8, 8, 3), dtype="uint8", is_image=True)
    with EpisodeStore.open(here / "demos.zarr") as store:
        spec = replace(store.spec, observation=(*store.spec.observation, camera))
        episode = store.read(0)
    images = np.zeros((len(episode.robot_times_s), 8, 8, 3), np.uint8)
    episode = replace(episode, spec=spec, observations={**episode.observations, "front": images})
    path = here / "filmed.zarr"
    with EpisodeStore.create(path, spec) as store:
        store.append(episode)
    chunk = path / "steps" / "float32" / "c" / "0" / "0"

    def told(words: str, status: int) -> Any:
        capfd.readouterr()
        assert main([*words.split(), "--json"]) == status
        return json.loads(capfd.readouterr().out)

    assert differences(told(f"demos video {path} 0 --out {here / 'v.webp'}", 0), documented("`demos video`")) == []
    assert differences(told(f"demos stats {path}", 0), documented("`demos stats`")) == []
    chunk.write_bytes(b"x" + chunk.read_bytes()[1:])
    validated, repaired = told(f"demos validate {path}", 1), told(f"demos repair {path}", 0)
    assert len(validated["damaged"]) == len(repaired["problems"]) == 1
    assert differences(validated, documented("`demos validate`")) == []
    assert differences(repaired, documented("`demos repair`")) == []


def test_doctor_tells_what_is_documented_about_a_robot_and_a_learner(here: Path, printed: Printed) -> None:
    (here / "robot.toml").write_text('robot = "sim:reach"\n[limits.tcp_dx]\nvelocity = 0.1\n')
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        (told,) = printed(f"doctor --robot robot.toml --learner {address}")
    fields = documented("`doctor`") | documented("`doctor`", 1) | documented("`doctor`", 2)
    assert differences(told, fields) == []


def test_import_tells_what_is_documented(here: Path, printed: Printed) -> None:
    with h5py.File(here / "demos.hdf5", "w") as file:
        file["observations"], file["actions"] = np.zeros((6, 3), np.float32), np.full((6, 1), 9.0, np.float32)
        file["timeouts"] = np.arange(6) % 3 == 2
    words = "demos import demos.hdf5 --format d4rl --task gymnasium:Pendulum-v1 --out imported.zarr"
    (told,) = printed(words)
    assert differences(told, documented("`demos import`")) == []


def test_finetune_tells_what_is_documented(printed: Printed) -> None:
    words = "finetune --from run --env-steps 12 --warm-up 5 --eval-every 12 --eval-episodes 1 --no-compile --yes"
    (looked,) = printed(f"{words} --run-dir looked --check")
    (told,) = printed(f"{words} --run-dir finetuned --intervene scripted --takeover late --takeover-after 0.1")
    fields = documented("`train`") | documented("`finetune`")
    assert differences(told, fields) == []
    assert differences(looked, {"preflight": fields["preflight"]}) == []


def test_reward_train_tells_what_is_documented(printed: Printed) -> None:
    printed("record --task reach --episodes 6 --out solved.zarr")
    words = "reward train solved.zarr --fields target_from_tcp --gradient-steps 5 --out solved.onnx"
    assert differences(printed(words)[0], documented("`reward train`")) == []


def test_verify_tells_what_is_documented(printed: Printed) -> None:
    fields = documented("`verify`")
    (told,) = printed("verify policy.onnx --robot sim:reach")
    assert differences(told, fields) == []
    (told,) = printed("verify policy.onnx --robot sim:reach --checkpoint run --samples 5")
    assert differences(told, fields | documented("`verify`", 1)) == []
    (told,) = printed("verify policy.onnx --checkpoint run --samples 5 --episodes 1")
    told["robot"] = "not asked for"
    assert differences(told, fields | documented("`verify`", 1) | documented("`verify`", 2)) == []


def test_run_tells_what_is_documented(printed: Printed) -> None:
    (told,) = printed("run policy.onnx --robot sim:reach --pace fast")
    assert differences(told, documented("`eval`") | documented("`run`")) == []


def test_serve_tells_what_is_documented(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RobotServer, "serve_forever", RobotServer.close)
    began, ended = printed("serve --robot sim:reach --address tcp://127.0.0.1:0")
    assert differences(began, documented("`serve`, when it serves")) == []
    assert differences(ended, documented("`serve`, when it ends")) == []


def test_bridge_status_tells_what_is_documented(printed: Printed) -> None:
    server = RobotServer(FakeRobot(), "tcp://127.0.0.1:0")
    over = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(over.is_set,))
    thread.start()
    try:
        with RemoteRobot(server.address) as robot:
            robot.reset(seed=0)
            for _ in range(2):
                robot.step(np.zeros(2, np.float32))
            (told,) = printed(f"bridge status {server.address}")
    finally:
        over.set()
        thread.join()
    assert differences(told, documented("`bridge status`")) == []


def test_an_actor_and_its_learner_tell_what_is_documented(printed: Printed, tmp_path: Path) -> None:
    contract = FakeRobot().spec.contract()
    inbox = Inbox(contract, is_stored=lambda uuid: False, store=len, received=lambda episode: None)
    trained = {"run": "r", "trained_env_steps": 0, "gradient_steps": 0, "waiting_episodes": 0}
    server = LearnerServer(
        "tcp://127.0.0.1:0", contract=contract, inbox=inbox, shelf=Shelf(), describe=lambda: dict(trained)
    )
    try:
        with Outbox(tmp_path) as outbox:
            courier = Courier(server.address, outbox, actor="one", spec=FakeRobot().spec)
            courier.wait_until_delivered(30.0)
            courier.close()
        (told,) = printed(f"bridge status {server.address}")
    finally:
        server.close()
    fields = documented("`bridge status` of a learner that listens")
    assert differences(told, fields) == []
    away = "--learner tcp://127.0.0.1:1 --deliver-s 0"
    (told,) = printed(f"actor --robot sim:reach {away} --outbox box --episodes 1 --pace fast --max-episode-steps 2")
    assert differences(told, documented("`actor`, `run --actor`")) == []


def test_keys_tell_what_is_documented(printed: Printed) -> None:
    (made,) = printed("keys make --directory keys")
    assert differences(made, documented("`keys make`")) == []
    changed: dict[str, Any] = {}
    for words in (f"allow laptop {made['public_key']}", "pin tcp://robot:5555 none", "remove laptop"):
        (told,) = printed(f"keys {words} --directory keys")
        changed |= told
    assert differences(changed, documented("`keys allow`, `keys pin`, `keys remove`")) == []
    (told,) = printed("keys list --directory keys")
    assert differences(told, documented("`keys list`")) == []


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
