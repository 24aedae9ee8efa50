"""What a user sees after typing something wrong: one line that says what, an exit status, one JSON object."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
import zarr

from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.cli import main
from robot_rlpd.config import write_config
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.learner.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from robot_rlpd.learner.networks import actor_shapes
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.learner.session_config import SessionConfig
from robot_rlpd.task import TaskOptions
from robot_rlpd.testing import FakeRobot

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(os.environ.get("ROBOT_RLPD_DATA", Path(__file__).parents[2] / "shared" / "data"))
TASKS = ("gymnasium:<id>", "pick_place", "reach")


class Outcome:
    """What one call printed and returned."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.strip()]

    @property
    def json(self) -> Any:
        assert self.out.count("\n") == 1
        return json.loads(self.out, parse_constant=pytest.fail)


class Typed:
    """Runs commands in this process, as typed in a directory of wrong things."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def run(self, *words: str) -> Outcome:
        self._capfd.readouterr()
        status = main(list(words))
        return Outcome(status, *self._capfd.readouterr())

    def fails(self, *words: str, told: tuple[str, ...] = (), status: int = 1) -> None:
        """One line on standard error that contains all of `told`, and with --json the same in one object."""
        plain = self.run(*words)
        assert (plain.status, plain.out) == (status, "")
        (line,) = plain.lines
        assert line.startswith("error: ")
        assert [part for part in told if part not in line] == [], line
        as_json = self.run(*words, "--json")
        assert as_json.status == status
        assert list(as_json.json) == ["error"]
        assert set(as_json.json["error"]) == {"type", "message", "field", "found", "allowed", "hint"}
        assert as_json.lines == [f"error: {as_json.json['error']['message']}"]
        assert [part for part in told if part not in as_json.lines[0]] == []


@pytest.fixture
def typed(capfd: pytest.CaptureFixture[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    monkeypatch.chdir(here)
    return Typed(capfd)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of two robots, a run, its policy, and all kinds of files that are none of these."""
    directory = tmp_path_factory.mktemp("wrong")
    for task in ("reach", "pick_place"):
        words = ["record", "--task", task, "--episodes", "1", "--out", str(directory / f"{task}.zarr"), "--json"]
        assert main(words) == 0
    save_run(directory / "run", directory / "reach.zarr")
    assert main(["export", str(directory / "run"), "--out", str(directory / "policy.onnx"), "--json"]) == 0
    zarr.create_group(directory / "foreign.zarr").create_array("a", shape=(3,), dtype="f4")
    (directory / "text").write_text("hello\n")
    for suffix in ("onnx", "pt", "hdf5"):
        (directory / f"garbage.{suffix}").write_bytes(np.random.default_rng(0).bytes(3000))
        (directory / f"empty.{suffix}").touch()
    wrong_policies(directory)
    wrong_checkpoints(directory)
    wrong_demonstrations(directory)
    wrong_runs(directory)
    return directory


def save_run(run: Path, store: Path) -> None:
    with EpisodeStore.open(store) as opened:
        contract = opened.spec.contract()
    config = RLPDConfig(hidden_dims=(4,))
    shapes = actor_shapes(contract.observation_size, contract.action.size, config.hidden_dims)
    checkpoint = Checkpoint(
        contract=contract,
        task="reach",
        task_options=TaskOptions(),
        max_episode_steps=40,
        config=config,
        learner={f"actor/{name}": torch.zeros(shape) for name, shape in shapes.items()},
    )
    (run / "checkpoints").mkdir(parents=True)
    save_checkpoint(run / "checkpoints" / "latest.pt", checkpoint)
    write_config(run / "config.json", SessionConfig(task="reach", rlpd=config))


def wrong_policies(directory: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    content = (directory / "policy.onnx").read_bytes()
    for share in (1, 10, 50, 99):
        (directory / f"truncated{share}.onnx").write_bytes(content[: len(content) * share // 100])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "theirs", [x], [y])
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), directory / "foreign.onnx"
    )


def wrong_checkpoints(directory: Path) -> None:
    path = directory / "run" / "checkpoints" / "latest.pt"
    content = torch.load(path, weights_only=True)
    for share in (1, 50, 99):
        raw = path.read_bytes()
        (directory / f"truncated{share}.pt").write_bytes(raw[: len(raw) * share // 100])
    torch.save({"weights": torch.zeros(3)}, directory / "foreign.pt")
    for name, change in (
        ("version", {"version": 7}),
        ("description", {"description": "{}"}),
        ("json", {"description": "{"}),
        ("tensors", {"tensors": {}}),
    ):
        torch.save(content | change, directory / f"{name}.pt")


def wrong_demonstrations(directory: Path) -> None:
    """D4RL's layout for Pendulum; and what is wrong with it in the name of each file."""
    rng = np.random.default_rng(0)
    good = {
        "observations": rng.normal(size=(40, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (40, 1)).astype(np.float32),
        "rewards": np.zeros(40, np.float32),
        "terminals": np.zeros(40, np.bool_),
        "timeouts": np.arange(40) % 10 == 9,
    }

    def write(name: str, changes: dict[str, Any]) -> None:
        with h5py.File(directory / name, "w") as file:
            for key, value in (good | changes).items():
                if value is not None:
                    file[key] = value

    for key in ("observations", "actions"):
        damaged = good[key].copy()
        damaged[13, 0] = np.nan
        write(f"nan_{key}.hdf5", {key: damaged})
        write(f"without_{key}.hdf5", {key: None})
    write("good.hdf5", {})
    write("short.hdf5", {"rewards": np.zeros(7, np.float32)})
    write("wide.hdf5", {"actions": np.zeros((40, 2), np.float32)})
    write("words.hdf5", {"actions": np.full((40, 1), b"left")})
    write("no_steps.hdf5", {key: value[:0] for key, value in good.items()})
    write("one_group.hdf5", dict.fromkeys(good) | {"data/demo_0": np.zeros(3)})
    content = (directory / "good.hdf5").read_bytes()
    for share in (1, 10, 50, 99):
        (directory / f"truncated{share}.hdf5").write_bytes(content[: len(content) * share // 100])
    damaged_head = bytearray(content)
    damaged_head[0x200:0x800] = rng.bytes(0x600)
    (directory / "damaged.hdf5").write_bytes(damaged_head)


def wrong_runs(directory: Path) -> None:
    for name, text in (("not_json", "{"), ("other_json", "[]"), ("other_type", '{"task": "reach", "env_steps": "x"}')):
        (directory / name).mkdir()
        (directory / name / "config.json").write_text(text)


RECORD = "record --task reach --out new.zarr"
ACTOR = "actor --robot sim:reach --learner tcp://127.0.0.1:1 --outbox new"
PENDULUM = "record --task gymnasium:Pendulum-v1 --out new.zarr"
IMPORT = "--format d4rl --task gymnasium:Pendulum-v1 --out new.zarr"
TRAIN = "train --task reach --run-dir new"
FINETUNE = "finetune --from run --run-dir new"
EVAL = "eval --policy run --task reach"
SERVE = "serve --address tcp://127.0.0.1:0 --robot"
RUN = "run policy.onnx --robot sim:reach --pace fast"
VERIFY = "verify policy.onnx --checkpoint run"

WRONG_NAMES: list[tuple[str, tuple[str, ...]]] = [
    ("record --out new.zarr --task nope", ("task: ", "nope", *TASKS)),
    ("train --run-dir new --task nope", ("task: ", "nope", *TASKS)),
    ("eval --policy run --task nope", ("task: ", "nope", *TASKS)),
    ("run policy.onnx --robot sim:reach --task nope", ("task: ", "nope", *TASKS)),
    ("demos import good.hdf5 --format d4rl --out new.zarr --task nope", ("task: ", "nope", *TASKS)),
    ("sim video reach.zarr --out new.webp --task nope", ("task: ", "nope", *TASKS[1:])),
    (f"{RECORD} --robot nope", ("robot: ", "nope", "sim:<name>", "tcp://HOST:PORT")),
    (f"{TRAIN} --robot nope", ("robot: ", "nope", "sim:<name>", "tcp://HOST:PORT")),
    (f"{EVAL} --robot nope", ("robot: ", "nope", "sim:<name>", "tcp://HOST:PORT")),
    ("verify policy.onnx --robot nope", ("robot: ", "nope", "sim:<name>", "tcp://HOST:PORT")),
    (f"{RUN} --hold-s -1", ("hold_s: found -1.0", "at least 0")),
    (f"{RUN} --ramp-s nan", ("ramp_s: found nan",)),
    (f"{RUN} --real-time-priority 100", ("real_time_priority: found 100", "1 to 99")),
    (f"{VERIFY} --episodes -1", ("episodes: found -1",)),
    ("verify policy.onnx --robot sim:reach --episodes 1", ("episodes: ", "--checkpoint")),
    ("run policy.onnx --robot file:nope.toml", ("nope.toml: cannot be read",)),
    ("run policy.onnx --robot file:text", ("text: not TOML",)),
    ("run policy.onnx --robot ros2:nope.toml", ("nope.toml: cannot be read",)),
    ("run policy.onnx --robot lerobot:text", ("text: ",)),
    ("doctor --robot nope.toml", ("nope.toml: cannot be read",)),
    ("doctor --learner nowhere", ("learner: found nowhere", "tcp://HOST:PORT")),
    ("doctor --learner tcp://127.0.0.1:1", ("learner: nobody answers there",)),
    ("run policy.onnx --robot nope", ("robot: ", "nope", "sim:<name>", "tcp://HOST:PORT")),
    (f"{SERVE} nope", ("robot: ", "nope", "sim:<name>")),
    (f"{TRAIN} --device nope", ("device: ", "found nope", "cpu")),
    (f"{SERVE} sim:nope", ("robot: ", "sim:nope", "pick_place, push, reach")),
    (f"{SERVE} gymnasium:Nope-v1", ("Nope",)),
    (f"{SERVE} tcp://127.0.0.1:1", ("robot: ", "tcp://127.0.0.1:1", "NAME:ARGUMENT")),
    (f"{RECORD} --device nope", ("device: ", "nope", "keyboard", "scripted")),
    (f"{RECORD} --camera-timeout-s 0", ("camera_timeout_s: found 0.0", "above 0 s")),
    (f"{RECORD} --jpeg-quality 101", ("jpeg_quality: found 101", "1 to 100")),
    (f"{RECORD} --jpeg-quality 80 --lossless", ("jpeg_quality: ", "not together with --lossless")),
    (f"{RECORD} --device keyboard", ("device: ", "not a terminal")),
    (f"{PENDULUM} --device scripted", ("device: ", "gymnasium:Pendulum-v1", "no scripted expert")),
    ("demos import good.hdf5 --format nope --out new.zarr", ("format: ", "nope", "d4rl, lerobot, minari")),
    ("demos export reach.zarr --format nope --out new", ("format: ", "nope", "d4rl, lerobot, minari")),
    ("record --out new.zarr --task gymnasium:Nope-v1", ("task: ", "Nope", "gymnasium:<module>:<id>")),
    ("record --out new.zarr --task gymnasium:", ("task: ", "gymnasium:<id>")),
    ("record --out new.zarr --task gymnasium:no_such_module:Nope-v1", ("task: ", "'no_such_module' is not installed")),
    ("record --out new.zarr --task gymnasium:CartPole-v1", ("action: ", "Discrete", "a Box of continuous actions")),
    ("train --run-dir new --task gymnasium:CartPole-v1", ("action: ", "Discrete", "a Box of continuous actions")),
    (f"{SERVE} gymnasium:CartPole-v1", ("action: ", "Discrete", "a Box of continuous actions")),
]

WRONG_DEVICES: list[tuple[str, tuple[str, ...]]] = [
    (f"{RECORD} --device browser:abc", ("port: ", "abc", "0 to 65535")),
    (f"{RECORD} --device leader", ("device: ", "leader:tcp://HOST:PORT")),
    (f"{RECORD} --device policy", ("device: ", "policy:FILE.onnx")),
    (f"{RECORD} --device policy:no.onnx", ("no.onnx: cannot be read",)),
    (f"{RECORD} --device policy:policy.onnx --robot sim:pick_place", ("observation.target_from_tcp",)),
    (f"{RECORD} --reset-time-s -1", ("reset_time_s: ", "-1", "at least 0")),
    (f"{PENDULUM} --device browser:0", ("action.a0: ", "browser", "delta")),
    ("record --task pick_place --out reach.zarr --resume", ("observation.cube_position", "reach.zarr")),
    ("console", ("robot: ", "--task")),
    ("console --task nope", ("task: ", "nope", *TASKS)),
    ("console --task reach --port 70000", ("port: ", "70000", "0 to 65535")),
    ("console --task reach --port 0 --out reach.zarr", ("reach.zarr: exists already", "--append")),
    ("console --task reach --port 0 --certificate no --certificate-key no", ("certificate: ", "no and no")),
    ("console --task reach --certificate no", ("certificate_key: ", "both or neither")),
    ("console --watch nonsense", ("address: ", "nonsense", "tcp://HOST:PORT")),
    ("console --watch tcp://127.0.0.1:1 --port 0", ("127.0.0.1:1: ", "nobody listens there")),
    ("console --watch tcp://127.0.0.1:1 --task reach", ("watch: ", "--task")),
    ("console --review no --port 0", ("no: no such store",)),
    ("console --review reach.zarr --task reach", ("review: ", "--task")),
]

WRONG_ROBOT: list[tuple[str, tuple[str, ...]]] = [
    (f"{TRAIN} --prior pick_place.zarr", ("observation.target_from_tcp", "store pick_place.zarr", "cube_position")),
    ("record --task pick_place --out reach.zarr --append", ("observation.cube_position", "reach.zarr")),
    (f"{RECORD} --robot sim:pick_place", ("observation.target_from_tcp", "sim:pick_place")),
    (f"{TRAIN} --robot sim:pick_place", ("observation.target_from_tcp", "sim:pick_place")),
    ("eval --policy run --task pick_place", ("observation.target_from_tcp",)),
    ("eval --policy policy.onnx --task pick_place", ("observation.target_from_tcp",)),
    (f"{VERIFY} --data pick_place.zarr", ("observation.target_from_tcp", "pick_place.zarr")),
    ("verify policy.onnx --robot sim:pick_place", ("observation.target_from_tcp", "sim:pick_place")),
    ("run policy.onnx --robot sim:pick_place", ("observation.target_from_tcp", "sim:pick_place")),
    (f"{RUN} --task pick_place", ("observation.cube_position", "task 'pick_place'")),
    (f"{RUN} --record pick_place.zarr", ("observation.", "pick_place.zarr")),
    (f"demos import good.hdf5 {IMPORT.replace('new', 'reach')} --append", ("observation.joint_positions",)),
    ("demos export reach.zarr --format d4rl --out new --task pick_place", ("observation.cube_from_tcp", "reach.zarr")),
]

WRONG_FILES: list[tuple[str, tuple[str, ...]]] = [
    *[(f"demos {verb} {name}", (name, "store")) for verb in ("info", "list") for name in ("no", "text", "run")],
    ("demos info foreign.zarr", ("foreign.zarr", "not an episode store")),
    ("demos info nope://x", ("nope://x", "Protocol not known")),
    (f"{TRAIN} --prior no", ("no: no such store",)),
    (f"{TRAIN} --prior text", ("text: not a store",)),
    (f"{TRAIN} --prior foreign.zarr", ("foreign.zarr: not an episode store",)),
    (f"{VERIFY} --data run", ("run: not a store",)),
    (f"{RUN} --record run", ("run: not a store",)),
    ("sim video run --task reach --out new.webp", ("run: not a store",)),
    (f"demos import no.hdf5 {IMPORT}", ("no.hdf5: no such file",)),
    (f"demos import text {IMPORT}", ("text: not a readable HDF5 file",)),
    (f"demos import garbage.hdf5 {IMPORT}", ("garbage.hdf5: not a readable HDF5 file",)),
    (f"demos import empty.hdf5 {IMPORT}", ("empty.hdf5: not a readable HDF5 file",)),
    (f"demos import damaged.hdf5 {IMPORT}", ("damaged.hdf5",)),
    *[(f"demos import truncated{n}.hdf5 {IMPORT}", (f"truncated{n}.hdf5: the file is truncated",)) for n in (10, 50)],
    (f"demos import truncated99.hdf5 {IMPORT}", ("truncated99.hdf5",)),
    (f"demos import truncated1.hdf5 {IMPORT}", ("truncated1.hdf5",)),
    (f"demos import nan_observations.hdf5 {IMPORT}", ("observations, episode 1, step 3", "NaN", "finite numbers")),
    (f"demos import nan_actions.hdf5 {IMPORT}", ("nan_actions.hdf5, actions, episode 1, step 3", "NaN")),
    (f"demos import without_actions.hdf5 {IMPORT}", ("actions: no such dataset", "observations, rewards")),
    (f"demos import without_observations.hdf5 {IMPORT}", ("field 'observation'", "--field observation=DATASET")),
    (f"demos import short.hdf5 {IMPORT}", ("short.hdf5, reward: ", "7 rows", "40")),
    (f"demos import wide.hdf5 {IMPORT}", ("wide.hdf5, actions: ", "(2,)", "(1,)")),
    (f"demos import words.hdf5 {IMPORT}", ("words.hdf5, actions: ", "numbers")),
    (f"demos import no_steps.hdf5 {IMPORT}", ("no_steps.hdf5: holds no steps",)),
    ("demos import one_group.hdf5 --format robomimic --out new.zarr", ("one_group.hdf5", "no episodes")),
    ("demos import good.hdf5 --format d4rl --out new.zarr", ("task: ", "--task")),
    ("demos import good.hdf5 --format minari --out new.zarr", ("good.hdf5/metadata.json: ",)),
    ("demos import good.hdf5 --format lerobot --out new.zarr", ("good.hdf5/meta/info.json: ",)),
    ("demos import good.hdf5 --format replay_buffer --out new.zarr", ("good.hdf5: not a zarr group of format 2",)),
    ("demos import reach.zarr --format replay_buffer --out new.zarr", ("reach.zarr: not a zarr group of format 2",)),
    ("demos export no --format d4rl --out new", ("no: no such store",)),
    ("demos export text --format d4rl --out new", ("text: not a store",)),
    ("demos export reach.zarr --format d4rl --out text", ("text: exists already",)),
    ("demos export reach.zarr --format d4rl --out no/new", ("no: no such directory",)),
    ("plot no --out new.svg", ("no: no run directory",)),
    ("plot not_json --out new.svg", ("not_json: no run directory",)),
    ("train --resume no", ("no: not a run directory",)),
    ("train --resume reach.zarr", ("reach.zarr: not a run directory",)),
    ("train --resume not_json", ("not_json/config.json: not JSON",)),
    ("train --resume other_json", ("other_json/config.json: not a SessionConfig",)),
    ("train --resume other_type", ("other_type/config.json: not a SessionConfig", "env_steps")),
    *[(f"export {name} --out new.onnx", (name, "checkpoint")) for name in ("no", "reach.zarr", "text", "garbage.pt")],
    *[(f"export {name}.pt --out new.onnx", (f"{name}.pt",)) for name in ("empty", "foreign", "description", "json")],
    *[(f"export truncated{n}.pt --out new.onnx", (f"truncated{n}.pt: not a readable",)) for n in (1, 50, 99)],
    ("export version.pt --out new.onnx", ("version.pt: version", "found 7", "allowed: 1")),
    ("export tensors.pt --out new.onnx", ("tensors.pt: actor/dense0/kernel", "no such parameter")),
    ("eval --task reach --policy tensors.pt", ("tensors.pt: actor/dense0/kernel",)),
    ("eval --task reach --policy no", ("no: no such run directory, checkpoint or .onnx file",)),
    ("eval --task pick_place --policy policy.onnx --noise 0.5", ("noise: ", "export it with --stochastic")),
    ("eval --task reach --policy truncated50.onnx", ("truncated50.onnx", "truncated")),
    *[
        (f"{command}", (name, reason))
        for name, reason in (
            ("no.onnx", "No such file"),
            ("garbage.onnx", "not an ONNX file"),
            ("empty.onnx", "empty"),
            ("foreign.onnx", "no policy file; make one with: robot-rlpd export"),
            *((f"truncated{n}.onnx", "truncated") for n in (1, 10, 50, 99)),
        )
        for command in (f"run {name} --robot sim:reach", f"verify {name} --checkpoint run")
    ],
    ("verify policy.onnx --checkpoint garbage.pt", ("garbage.pt: not a readable checkpoint",)),
]

WRONG_OUTPUTS: list[tuple[str, tuple[str, ...]]] = [
    ("record --task reach --out reach.zarr", ("reach.zarr: exists already", "--append")),
    (f"demos import good.hdf5 {IMPORT.replace('new', 'reach')}", ("reach.zarr: exists already", "--append")),
    (f"{TRAIN} --preset pixels", ("cameras: ", "--cameras front_image")),
    (f"{TRAIN} --cameras front_image", ("cameras: ", "found front_image", "allowed: none", "--env-kwargs")),
    (f"{TRAIN} --state-fields tcp", ("state_fields: ", "found tcp", "tcp_position")),
    (f"{TRAIN} --preset pixels --cameras front_image --frame-stack 0", ("frame_stack: found 0", ">= 1")),
    (f"{TRAIN} --ensemble-size 3 --subset-size 4", ("subset_size: found 4", "ensemble_size (3)")),
    (f"{TRAIN} --target-entropy nan", ("target_entropy: found nan", "finite")),
    (
        f'{TRAIN} --env-kwargs {{"previous_actions":99}}',
        ("previous_actions: found 99", "0 to 16 actions"),
    ),
    ("train --task reach --run-dir run", ("run: exists already", "--resume run")),
    ("quickstart --run-dir run", ("run: exists already", "--run-dir")),
    ("export run --out policy.onnx", ("policy.onnx: exists already", "--force")),
    ("export run --out nowhere/new.onnx", ("out: ", "nowhere/new.onnx", "existing directory")),
    ("export run --out /proc/new.onnx", ("/proc/new.onnx",)),
    ("record --task reach --out /proc/new.zarr", ("/proc/new.zarr: cannot create",)),
    ("record --task reach --out text/new.zarr", ("text/new.zarr: cannot create", "Not a directory")),
    (f"demos import good.hdf5 {IMPORT.replace('new', '/proc/new')}", ("/proc/new.zarr: cannot create",)),
    ("train --task reach --run-dir text", ("text: exists already",)),
    ("train --task reach --run-dir text/run", ("text/run", "Not a directory")),
    ("train --task reach --run-dir /proc/run", ("/proc/run",)),
    ("quickstart --run-dir /proc/run", ("/proc/run",)),
    (f"{RUN} --record /proc/new.zarr", ("/proc/new.zarr: cannot create",)),
    ("sim video reach.zarr --task reach --out new.png", ("new.png", ".webp")),
    ("plot run --out new.xyz", ("out: ", "new.xyz", ".svg, .png, .pdf")),
    ("plot run --out new.svg", ("run: no metrics.jsonl",)),
]

WRONG_VALUES: list[tuple[str, tuple[str, ...]]] = [
    (f"{PENDULUM} --env-kwargs {{bad", ("env_kwargs: ", "{bad", "a JSON object")),
    (f"{PENDULUM} --env-kwargs [1]", ("env_kwargs: ", "[1]", "a JSON object")),
    (f'{PENDULUM} --env-kwargs {{"nope":1}}', ("env_kwargs: ", "nope")),
    (f"{SERVE} gymnasium:Pendulum-v1 --env-kwargs {{bad", ("env_kwargs: ", "{bad", "a JSON object")),
    (f"{TRAIN} --env-kwargs {{bad", ("env_kwargs: ", "{bad", "a JSON object")),
    (f"{EVAL} --env-kwargs {{bad", ("env_kwargs: ", "{bad", "a JSON object")),
    (f"{RUN} --env-kwargs {{bad", ("env_kwargs: ", "{bad", "a JSON object")),
    (f"demos import good.hdf5 {IMPORT} --env-kwargs {{bad", ("env_kwargs: ", "{bad", "a JSON object")),
    (f'{RECORD} --env-kwargs {{"a":1}}', ("env_kwargs: no such option", "cameras, image_size, randomization")),
    (f'{RECORD} --env-kwargs {{"cameras":["moon"]}}', ("cameras: ", "moon", "front, side, top, wrist")),
    (f'{RECORD} --env-kwargs {{"image_size":0}}', ("image_size: ", "0", "8 to 1024")),
    (f'{RECORD} --env-kwargs {{"randomization":"often"}}', ("randomization: ", "often", "none, mild, wide")),
    (f'{RECORD} --env-kwargs {{"randomization":{{"mass":1}}}}', ("randomization: ", "mass", "thing_mass_scale")),
    (f'{RECORD} --env-kwargs {{"randomization":{{"payload_kg":-1}}}}', ("randomization.payload_kg: ", "-1", "0 to 3")),
    (f"{SERVE} standin:nope:hard", ("robot: ", "standin:nope", "pick_place, push, reach")),
    (f"{SERVE} standin:push:nope", ("robot: ", "nope", "mild, hard, held_back:SEED")),
    (f'{SERVE} standin:push --env-kwargs {{"randomization":"mild"}}', ("env_kwargs: ", "randomization")),
    ("sim drawn --randomization nope", ("randomization: ", "nope", "none, mild, wide")),
    ("sim drawn --randomization {bad", ("randomization: ", "{bad", "a JSON object")),
    ("sim drawn --samples 0", ("samples: ", "0", "at least 1")),
    ("sim drawn --seed -1", ("seed: ", "-1", "at least 0")),
    ("sim drawn --out new.xyz", ("out: ", "new.xyz", ".svg or .png or .pdf")),
    ("sim drawn run", ("run: not a store",)),
    ("sim identify reach.zarr --task nope", ("task: ", "nope", "pick_place, push, reach")),
    ("sim identify reach.zarr --task push", ("observation.block_position", "no such field")),
    ("sim identify reach.zarr --task reach --episodes 0", ("episodes: ", "0", "at least 1")),
    ("sim identify reach.zarr --task reach --evaluations 0", ("evaluations: ", "0", "at least 1")),
    ("sim identify reach.zarr --task reach --horizon 0", ("horizon: ", "0", "at least 1")),
    ("sim identify reach.zarr --task reach --seed -1", ("seed: ", "-1", "at least 0")),
    ("sim identify reach.zarr --task reach --parameters nope", ("parameters: ", "nope", "servo_gain_scale")),
    (
        "sim identify reach.zarr --task reach --parameters seen_dx_m",
        ("parameters: ", "motion does not tell it", "sim calibrate"),
    ),
    ("sim identify run --task reach", ("run: not a store",)),
    ("sim identify reach.zarr --task reach --calibration no.json", ("calibration: ", "cannot be read", "no.json")),
    ("sim identify reach.zarr --task reach --calibration run/config.json", ("calibration: ", "sim calibrate")),
    ("sim calibrate reach.zarr --task nope", ("task: ", "nope", "pick_place, push, reach")),
    ("sim calibrate reach.zarr --task push", ("observation.block_position", "no such field")),
    ("sim calibrate reach.zarr --task reach --corrected reach.zarr", ("corrected: ", "exists already")),
    ("sim calibrate reach.zarr --task reach --seed -1", ("seed: ", "-1", "at least 0")),
    (f"{RECORD} --success-when nope", ("success_when: only for gymnasium tasks",)),
    (f"{PENDULUM} --success-when observation[", ("success_when: ", "observation[", "field names")),
    (f"{PENDULUM} --success-when nope>1", ("success_when: ", "nope", "observation, reward")),
    (f"{PENDULUM} --success-when observation[3]>1", ("success_when: ", "index 3 is out of bounds")),
    (f"{PENDULUM} --success-when observation>1", ("success_when: ", "shape (3,)")),
    (f"{PENDULUM} --success-when 1/0", ("success_when: ", "1/0")),
    (f"{PENDULUM} --success-when {'-' * 990}1", ("success_when: ",)),
    (f"demos import good.hdf5 {IMPORT} --field foo", ("field: ", "foo", "NAME=SOURCE")),
    (f"demos import good.hdf5 {IMPORT} --field foo=actions", ("field: ", "foo", "observation")),
    (f"demos import good.hdf5 {IMPORT} --field observation=nope", ("nope: no such dataset", "observations")),
    (f"demos import good.hdf5 {IMPORT} --field observation=observations[0:2]", ("2 entries", "(3,)")),
    (f"demos import good.hdf5 {IMPORT} --field observation=observations[x]", ("DATASET[a:b]",)),
    (f"demos import good.hdf5 {IMPORT} --source ghost", ("source: ", "ghost", "human")),
    (f"demos import good.hdf5 {IMPORT} --control-rate-hz 0", ("control_rate_hz: ", "above 0 Hz")),
    *[
        (f"{command} --{option.replace('_', '-')} {value}", (f"{option}: found {value}", f"allowed: {allowed}"))
        for command, option, value, allowed in (
            (RECORD, "episodes", "0", "at least 1"),
            (RECORD, "max_attempts", "0", "at least 1"),
            (RECORD, "max_episode_steps", "0", "at least 1"),
            (RECORD, "seed", "-1", "at least 0"),
            (RECORD, "noise", "nan", "0 to 1"),
            (f"demos import good.hdf5 {IMPORT}", "max_episode_steps", "-1", "at least 1"),
            (f"demos import good.hdf5 {IMPORT}", "jpeg_quality", "0", "1 to 100"),
            (f"{SERVE} sim:reach", "max_episode_steps", "0", "at least 1"),
            (f"{SERVE} sim:reach", "command_timeout_s", "-1.0", "above 0 s"),
            (TRAIN, "env_steps", "0", ">= 1"),
            (TRAIN, "seed", "-1", ">= 0"),
            (TRAIN, "start_training", "0", ">= 1"),
            (TRAIN, "utd_ratio", "0", ">= 1"),
            (TRAIN, "ensemble_size", "-2", ">= 1"),
            (TRAIN, "batch_size", "0", ">= 1"),
            (TRAIN, "eval_every", "-1", ">= 0"),
            (TRAIN, "eval_episodes", "0", ">= 1"),
            (TRAIN, "max_episode_steps", "0", "at least 1"),
            (TRAIN, "threads", "-1", ">= 0"),
            (TRAIN, "time_limit_min", "nan", "> 0 minutes"),
            ("train --resume run", "env_steps", "-5", ">= 1"),
            (FINETUNE, "minutes", "0.0", "> 0 and finite"),
            (FINETUNE, "env_steps", "0", ">= 1"),
            (FINETUNE, "warm_up", "0", ">= 1"),
            (FINETUNE, "eval_episodes", "0", ">= 1"),
            (FINETUNE, "takeover_after", "1.5", "0 to 1"),
            (FINETUNE, "stuck_s", "0.0", "> 0"),
            (FINETUNE, "patience_min", "-1.0", ">= 0"),
            (FINETUNE, "wall_minutes", "nan", "> 0 minutes"),
            (EVAL, "episodes", "0", ">= 1"),
            (EVAL, "seed", "-1", ">= 0"),
            (EVAL, "noise", "1.5", "0 to 1"),
            (EVAL, "max_episode_steps", "0", "at least 1"),
            (VERIFY, "samples", "0", "at least 1"),
            (VERIFY, "seed", "-1", "at least 0"),
            (RUN, "episodes", "0", "at least 1"),
            (RUN, "seed", "-1", "at least 0"),
            (RUN, "max_episode_steps", "0", "at least 1"),
            ("sim video reach.zarr --task reach --out new.webp", "episodes", "0", "1 to 1"),
            ("quickstart --run-dir new", "demonstrations", "-1", "at least 1"),
            ("quickstart --run-dir new", "env_steps", "0", "at least 1"),
            ("quickstart --run-dir new", "episodes", "0", "at least 1"),
        )
    ],
    ("serve --robot sim:reach --address nonsense", ("address: ", "nonsense", "tcp://HOST:PORT or ipc://PATH")),
    ("serve --robot sim:reach --address tcp://127.0.0.1:99999", ("address: ", "99999")),
    ("serve --robot sim:reach --address tcp://0.0.0.0:5599", ("own.key: ", "robot-rlpd keys make")),
    ("actor --robot sim:nothing --learner tcp://127.0.0.1:1 --outbox new", ("robot: ", "sim:nothing")),
    (f"{ACTOR} --command-timeout-s -1", ("command_timeout_s: ",)),
    (f"{ACTOR} --max-missed-ticks -1", ("max_missed_ticks: ",)),
    (f"{ACTOR} --hold-after-ticks inf", ("hold_after_ticks: ",)),
    ("actor --robot sim:reach --learner nonsense --outbox new", ("address: ", "nonsense", "tcp://HOST:PORT")),
    (f"{ACTOR} --episodes 0", ("episodes: ", "at least 1")),
    (f"{ACTOR} --task pick_place", ("observation.cube_position: ", "allowed: ")),
    ("train --task reach --run-dir new --listen nonsense", ("address: ", "nonsense")),
    ("train --task served:nonsense --run-dir new", ("address: ", "nonsense", "tcp://HOST:PORT")),
    ("serve --robot sim:reach --hold-after-ticks -1", ("hold_after_ticks: ", "-1", "at least 0")),
    ("serve --robot sim:reach --hold-after-ticks nan", ("hold_after_ticks: ", "nan", "at least 0")),
    ("train --task reach --run-dir new --listen tcp://127.0.0.1:1 --robot tcp://127.0.0.1:2", ("listen: ", "--robot")),
    ("keys allow laptop nonsense --directory keys", ("key: ", "nonsense", "40 characters")),
    ("keys pin robot:5555 none --directory keys", ("address: ", "robot:5555", "tcp://HOST:PORT")),
    ("keys remove nobody --directory keys", ("nobody: ", "neither a client nor a server")),
    ("bridge status tcp://127.0.0.1:1 --timeout-s 0.1", ("tcp://127.0.0.1:1", "nobody listens there")),
    ("bridge status tcp://127.0.0.1:1 --timeout-s -1", ("timeout_s: ", "above 0 s")),
    ("bridge status tcp://192.0.2.1:5555", ("address: ", "keys pin")),
    (f"{RECORD} --robot tcp://nonsense", ("address: ", "tcp://nonsense", "tcp://HOST:PORT")),
    ("train --run-dir new", ("task: is needed", "--resume")),
    ("train --task reach", ("run_dir: is needed", "--resume")),
    ("finetune --run-dir new", ("from: is needed", "--resume")),
    ("finetune --from run", ("run_dir: is needed", "--resume")),
    ("finetune --from no --run-dir new", ("no: no such run directory or checkpoint",)),
    ("finetune --resume run", ("run: not a session of fine-tuning",)),
    (f"{FINETUNE} --success operator", ("intervene: needs a device with buttons", "--intervene keyboard")),
    (f"{FINETUNE} --intervene nope", ("intervene: no such intervene", "keyboard")),
    (f"{TRAIN} --success classifier", ("classifier: found none", "reward train")),
    (f"{TRAIN} --success classifier --classifier missing.onnx", ("missing.onnx: cannot be read",)),
    (f"{TRAIN} --success classifier --classifier policy.onnx", ("policy.onnx: an ONNX file, but no success",)),
    (f"{TRAIN} --success robot --success-when reward>0", ("success_when: found reward>0", "--success task")),
    (f"{FINETUNE} --success classifier", ("classifier: found none", "reward train")),
    (f"{FINETUNE} --classifier policy.onnx", ("classifier: found policy.onnx", "--success classifier")),
    (f"{FINETUNE} --success classifier --classifier policy.onnx", ("policy.onnx: an ONNX file, but no success",)),
    (f"{FINETUNE} --success classifier --classifier text", ("text: not an ONNX file",)),
    ("reward train reach.zarr --out new.onnx", ("stores: too few solved episodes", "1 solved of 1", "5 or more")),
    ("serve --robot sim:reach --classifier policy.onnx", ("policy.onnx: an ONNX file, but no success",)),
    ("reward train reach.zarr --out new.pt", ("out: found new.pt", "ends in .onnx")),
    ("reward train reach.zarr --out policy.onnx", ("policy.onnx: exists already", "--force")),
    ("reward train reach.zarr --out new.onnx --fields moon", ("fields: ", "found moon", "target_from_tcp")),
    ("reward train reach.zarr --out new.onnx --cameras front_image", ("cameras: ", "found front_image", "none")),
    ("reward train reach.zarr --out new.onnx --precision 1.5", ("precision: found 1.5", "above 0, up to 1")),
    ("reward train nowhere.zarr --out new.onnx", ("nowhere.zarr",)),
    (f"{FINETUNE} --env-steps 5 --minutes 5", ("env_steps: one of the two",)),
    (f"{FINETUNE} --prior reach.zarr --prior-weights 1 2", ("prior_weights: ", "one for each of 1")),
    ("verify policy.onnx", ("checkpoint: ", "--checkpoint or --robot")),
]


WRONG_REVIEW: list[tuple[str, tuple[str, ...]]] = [
    *[
        (f"demos {words.replace('STORE', name)}", (name, "store"))
        for words in (
            "validate STORE",
            "compact STORE",
            "stats STORE",
            "undo STORE",
            "trim STORE 0 --start 1",
            "relabel STORE 0 --success true",
            "delete STORE 0",
            "replay STORE 0",
            "video STORE 0 --out new.webp",
            "split STORE 0 --out new.zarr",
            "merge STORE --out new.zarr",
        )
        for name in ("no", "run")
    ],
    ("demos repair no", ("no: no such store",)),
    ("demos repair run", ("run: neither of the two files that describe it",)),
    ("demos repair text", ("text: ", "Not a directory")),
    ("demos validate nope://x", ("nope://x", "Protocol not known")),
    ("demos delete file://reach.zarr 0", ("no such store",)),
    *[
        (f"demos {words}", ("episodes: found 7", "0 to 0, FIRST-LAST", "solved"))
        for words in (
            "trim reach.zarr 7",
            "delete reach.zarr 7",
            "relabel reach.zarr 7 --success true",
            "replay reach.zarr 7",
            "split reach.zarr 7 --out new.zarr",
        )
    ],
    ("demos trim reach.zarr all --start 500", ("steps: found 500:", "0 <= START < STOP <= ")),
    ("demos trim reach.zarr 0 --stop 0", ("steps: found 0:0",)),
    ("demos delete reach.zarr unsolved", ("episodes: no episode", "at least one")),
    ("demos relabel reach.zarr 0", ("relabel: nothing to change", "--success")),
    ("demos undo reach.zarr", ("reach.zarr: nothing to undo",)),
    ("demos undo reach.zarr --edit 3", ("edit: found 3", "no edits")),
    ("demos stats reach.zarr --out new.bmp", ("out: ", "new.bmp", ".png, .svg, .pdf")),
    ("demos stats reach.zarr --out nowhere/new.png", ("out: ", "existing directory")),
    ("demos video reach.zarr 0 --out new.webp", ("camera: the store has no camera images", "sim video")),
    ("demos video reach.zarr 0 --out new.avi", ("out: ", "new.avi", ".webp, .gif, .mp4")),
    ("demos video reach.zarr 0 --out new.webp --every 0", ("every: found 0", "at least 1")),
    ("demos video reach.zarr 0 --out new.webp --speed nan", ("speed: found nan", "above 0")),
    ("demos split reach.zarr all --out reach.zarr", ("reach.zarr: exists already",)),
    ("demos split reach.zarr all --out new.zarr --rest reach.zarr", ("reach.zarr: exists already",)),
    ("demos split reach.zarr all --out new.zarr --rest new.zarr", ("rest: found new.zarr", "another directory")),
    ("demos split reach.zarr all --out new.zarr --share 2", ("share: found 2", "above 0, at most 1")),
    ("demos split reach.zarr all --out new.zarr --seed -1", ("seed: found -1", "at least 0")),
    ("demos split reach.zarr all --out /proc/new.zarr", ("/proc/new.zarr: cannot create",)),
    ("demos merge reach.zarr pick_place.zarr --out new.zarr", ("observation.", "no such field")),
    ("demos merge reach.zarr --out reach.zarr", ("reach.zarr: exists already",)),
    ("demos replay reach.zarr 0 --task nope", ("task: no such task",)),
    ("demos replay reach.zarr 0 --task pick_place", ("observation.",)),
    ("demos replay reach.zarr 0 --max-start-difference -1", ("max_start_difference: found -1", "at least 0")),
]


CASES = [*WRONG_REVIEW, *WRONG_NAMES, *WRONG_DEVICES, *WRONG_ROBOT, *WRONG_FILES, *WRONG_OUTPUTS, *WRONG_VALUES]


@pytest.mark.parametrize(("words", "told"), CASES, ids=[words[:80] for words, _ in CASES])
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_left(words: str, told: tuple[str, ...], typed: Typed) -> None:
    before = sorted(Path().rglob("*"))
    typed.fails(*words.split(" "), told=told)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("record --nope 1", ("--nope", "--task", "--out")),
        ("record --task reach", ("--out",)),
        ("record --task reach --out new.zarr --episodes many", ("--episodes", "many")),
        ("serve --robot sim:reach --pace slow", ("--pace", "slow", "real", "fast")),
        ("demos info", ("Store: a directory",)),
        ("train --preset nope", ("--preset", "nope", "quickstart")),
        ("doctor extra", ("extra",)),
    ],
)
def test_wrong_usage_has_status_2_and_says_what_was_wrong(words: str, told: tuple[str, ...], typed: Typed) -> None:
    plain = typed.run(*words.split())
    assert (plain.status, plain.out) == (2, "")
    assert "Traceback" not in plain.err
    as_json = typed.run(*words.split(), "--json")
    assert as_json.status == 2
    error = as_json.json["error"]
    assert error["type"] == "usage"
    assert error["message"].endswith("--help")
    assert [part for part in told if part not in error["message"] or part not in plain.err.replace("\n", "")] == []


@pytest.mark.parametrize("words", ["nope", "demos", "demos nope", "sim nope", "--nope"])
def test_an_unknown_command_lists_those_that_exist(words: str, typed: Typed) -> None:
    typed.fails(*words.split(), told=(f"found {words};", "demos info", "train"), status=2)


@pytest.mark.parametrize(
    "words",
    [
        RECORD,
        TRAIN,
        "train --resume run",
        FINETUNE,
        EVAL,
        "verify policy.onnx",
        "run policy.onnx",
    ],
)
def test_an_address_that_nobody_serves_is_given_up(words: str, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inspect.signature(RemoteRobot).parameters["connect_timeout_s"].default == 10.0
    impatient = functools.partial(RemoteRobot, connect_timeout_s=0.1)
    monkeypatch.setattr("robot_rlpd.bridge.robots.RemoteRobot", impatient)
    told = ("tcp://127.0.0.1:1: no answer within 0.1 s", "robot-rlpd serve")
    typed.fails(*words.split(), "--robot", "tcp://127.0.0.1:1", told=told)
    assert not Path("new").exists()
    assert not Path("new.zarr").exists()


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """Address of a served robot that fits no task here."""
    server = RobotServer(FakeRobot(), "tcp://127.0.0.1:0", pace="fast")
    end = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(end.is_set,))
    thread.start()
    yield server.address
    end.set()
    thread.join()


@pytest.mark.parametrize("words", [RECORD, TRAIN, EVAL, "verify policy.onnx", "run policy.onnx"])
def test_a_served_robot_of_another_contract_is_refused_naming_the_field(words: str, served: str, typed: Typed) -> None:
    typed.fails(*words.split(), "--robot", served, told=("observation.joint_positions", "no such field", "target"))
    assert not Path("new").exists()
    assert not Path("new.zarr").exists()


def test_an_address_in_use_is_not_served_twice(served: str, typed: Typed) -> None:
    words = ("serve", "--robot", "sim:reach", "--address", served)
    typed.fails(*words, told=("address: in use", served, "--address"))


@pytest.mark.parametrize("length", [0, 8, 2000, 100_000, 600_000, 1_205_190])
def test_a_truncated_file_of_real_demonstrations_is_told(length: int, typed: Typed, tmp_path: Path) -> None:
    source = DATA / "adroit_door_human.hdf5"
    if not source.is_file():
        pytest.skip(f"no {source}; set ROBOT_RLPD_DATA")
    file = tmp_path / "door.hdf5"
    with source.open("rb") as whole:
        file.write_bytes(whole.read(length))
    typed.fails("demos", "import", str(file), *IMPORT.split(), told=("door.hdf5",))
    assert not Path("new.zarr").exists()


def test_a_process_prints_the_same_without_a_traceback(here: Path) -> None:
    program = "import sys; from robot_rlpd.cli import main; sys.exit(main())"
    words = ["train", "--task", "reach", "--run-dir", "new", "--prior", "pick_place.zarr", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=here, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["type"] == "MismatchError"
    assert done.stderr == f"error: {json.loads(done.stdout)['error']['message']}\n"


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def contents(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.name != "ballast")


def test_a_full_disk_is_told_and_what_was_committed_stays(small_disk: Path, typed: Typed) -> None:
    store, ballast = small_disk / "demos.zarr", small_disk / "ballast"
    record = ("record", "--task", "reach", "--append", "--out", str(store), "--episodes")
    assert typed.run(*record, "2").status == 0
    save_run(small_disk / "run", store)
    checkpoint = small_disk / "run" / "checkpoints" / "latest.pt"
    saved = checkpoint.read_bytes()
    fill(ballast)
    before = contents(small_disk)

    typed.fails("export", "run", "--out", str(small_disk / "new.onnx"), told=("new.onnx: the disk is full",))
    typed.fails("train", "--task", "reach", "--run-dir", str(small_disk / "new"), told=("new",))
    words = IMPORT.replace("new.zarr", str(small_disk / "new.zarr")).split()
    typed.fails("demos", "import", "good.hdf5", *words, told=("new.zarr",))
    run = [*RUN.split(), "--record", str(small_disk / "new.zarr")]
    typed.fails(*run, told=("new.zarr",))
    assert contents(small_disk) == before

    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        save_checkpoint(checkpoint, replace(load_checkpoint(checkpoint), env_steps=1))
    assert checkpoint.read_bytes() == saved
    failed = typed.run(*record, "5")
    assert failed.status == 1
    assert len(failed.lines) == 1
    assert typed.run("demos", "info", str(store), "--json").json["episodes"] == 2

    ballast.unlink()
    assert typed.run(*record, "1").status == 0
    assert typed.run("demos", "info", str(store), "--json").json["episodes"] >= 3
    assert [path.name for path in contents(small_disk) if path.suffix in (".tmp", ".refused", ".importing")] == []
