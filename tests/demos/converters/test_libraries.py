"""Files checked with the libraries that define their formats, each in an environment of its own.

`$ROBOT_RLPD_LIBRARIES` names a directory with the environments `minari`, `robomimic`, `lerobot` and `zarr`;
docs/formats.md says how to make them.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demos.converters.conversion import ConversionTarget
from demos.exporting import export_episodes, make_export
from robot_rlpd.episode import Ended
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.registry import load_entry_point
from tests.demos.converters.conftest import ARM

pytestmark = pytest.mark.slow

READ_ROBOMIMIC = """
import json, sys
import robomimic.utils.file_utils as files, robomimic.utils.obs_utils as observations
from robomimic.utils.dataset import SequenceDataset
path, keys = sys.argv[1], ["joints", "pose", "count"]
observations.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": keys, "rgb": ["camera"]}})
shapes = files.get_shape_metadata_from_dataset(path, all_obs_keys=keys)
data = SequenceDataset(hdf5_path=path, obs_keys=keys, dataset_keys=["actions", "rewards", "dones"], load_next_obs=True,
    frame_stack=1, seq_length=1, pad_frame_stack=True, pad_seq_length=True, get_pad_mask=False, goal_mode=None,
    hdf5_cache_mode="low_dim", hdf5_use_swmr=True, hdf5_normalize_obs=False)
print(json.dumps({"environment": files.get_env_metadata_from_dataset(path)["env_name"], "actions": shapes["ac_dim"],
    "steps": len(data), "joints": data[0]["obs"]["joints"].tolist(), "next": data[0]["next_obs"]["joints"].tolist()}))
"""

READ_MINARI = """
import json, os, sys
folder, name = os.path.split(sys.argv[1])
os.environ["MINARI_DATASETS_PATH"] = folder
import minari
data = minari.load_dataset(name)
episodes = list(data.iterate_episodes())
first = episodes[0]
print(json.dumps({"steps": int(data.total_steps), "lengths": [len(e) for e in episodes],
    "joints": first.observations["joints"].tolist(), "camera": first.observations["camera"][:, 0, 0, 0].tolist(),
    "nested": first.observations["wrist"]["grey"].shape, "rewards": first.rewards.tolist(),
    "ends": [[bool(e.terminations[-1]), bool(e.truncations[-1])] for e in episodes],
    "inside": all(bool(data.action_space.contains(a)) for e in episodes for a in e.actions)}))
"""

WRITE_MINARI = """
import os, sys
os.environ["MINARI_DATASETS_PATH"] = sys.argv[1]
import gymnasium, numpy as np
from gymnasium import spaces
from minari import DataCollector
class Point(gymnasium.Env):
    observation_space = spaces.Dict({"position": spaces.Box(-np.inf, np.inf, (2,)),
        "camera": spaces.Box(0, 255, (48, 64, 3), np.uint8), "deep": spaces.Dict({"n": spaces.Discrete(5)})})
    action_space = spaces.Box(-1, 1, (2,))
    def seen(self):
        camera = np.full((48, 64, 3), self.t * 10, np.uint8)
        return {"position": np.full(2, self.t, np.float32), "camera": camera, "deep": {"n": self.t % 5}}
    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.seen(), {"success": False}
    def step(self, action):
        self.t += 1
        success = self.t == 5 and self.solvable
        return self.seen(), float(success), success, self.t >= 8, {"success": success}
env = DataCollector(Point(), record_infos=True)
for episode in range(3):
    env.unwrapped.solvable = episode != 1
    env.reset(seed=episode)
    ended = False
    while not ended:
        _, _, terminated, truncated, _ = env.step(np.full(2, 0.1, np.float32))
        ended = terminated or truncated
env.create_dataset(dataset_id="point-v0")
"""

READ_LEROBOT = """
import json, sys
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.utils import dataset_to_policy_features
data = LeRobotDataset("local/arm", root=sys.argv[1])
row = data.hf_dataset[13]
print(json.dumps({"episodes": data.num_episodes, "steps": data.num_frames, "rate": data.fps,
    "tasks": list(data.meta.tasks.index),
    "state": row["observation.state"].tolist(), "action": row["action"].tolist(), "episode": int(row["episode_index"]),
    "policy": {k: f.type.value for k, f in dataset_to_policy_features(data.meta.features).items()},
    "mean": data.meta.stats["observation.state"]["mean"].tolist()}))
"""

WRITE_LEROBOT = """
import sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
motors = ["shoulder", "elbow"]
features = {"observation.state": {"dtype": "float32", "shape": (2,), "names": motors},
    "action": {"dtype": "float32", "shape": (2,), "names": motors},
    "observation.images.top": {"dtype": "video", "shape": (96, 128, 3), "names": ["height", "width", "channels"]},
    "observation.images.small": {"dtype": "image", "shape": (3, 16, 20), "names": ["channels", "height", "width"]},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "next.done": {"dtype": "bool", "shape": (1,), "names": None}}
data = LeRobotDataset.create("local/theirs", fps=10, root=sys.argv[1], robot_type="so100", features=features)
for episode in range(3):
    for t in range(12 + episode):
        last = t == 11 + episode
        data.add_frame({"observation.state": np.array([t, episode], np.float32), "action": np.array([t, 0], np.float32),
            "observation.images.top": np.full((96, 128, 3), 20 * episode + 10 * t, np.uint8),
            "observation.images.small": np.full((16, 20, 3), 5 * t + episode, np.uint8),
            "next.reward": np.array([float(last and episode != 1)], np.float32), "next.done": np.array([last]),
            "task": "stack"})
    data.save_episode()
data.finalize()
"""

READ_ZARR = """
import json, sys, zarr
root = zarr.open(sys.argv[1], "r")
print(json.dumps({"ends": root["meta/episode_ends"][:].tolist(), "joints": root["data/joints"][:].tolist(),
    "camera": root["data/camera"][:, 0, 0, 0].tolist(), "lengths": sorted({len(a) for a in root["data"].values()})}))
"""


def run(library: str, program: str, path: Path) -> Any:
    """What a program printed last, run in the library's environment."""
    python = Path(os.environ.get("ROBOT_RLPD_LIBRARIES", "nowhere"), library, "bin", "python")
    if not python.exists():
        pytest.skip(f"$ROBOT_RLPD_LIBRARIES has no environment {library}; docs/formats.md says how to make it")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(path.parent / "hub")}
    done = subprocess.run(
        [str(python), "-c", program, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]) if "json" in program else None


def exported(store: Path, kind: str, out: Path) -> Path:
    with EpisodeStore.open(store) as opened:
        export_episodes(make_export(opened, out.name), load_entry_point("robot_rlpd.exporters", kind), out)
    return out


def imported(path: Path, kind: str, **target: Any) -> Any:
    return list(load_entry_point("robot_rlpd.converters", kind)(path, ConversionTarget(**target)))


def test_robomimic_reads_what_is_exported(arm_store: Path, tmp_path: Path) -> None:
    told = run("robomimic", READ_ROBOMIMIC, exported(arm_store, "robomimic", tmp_path / "arm.hdf5"))
    with EpisodeStore.open(arm_store) as store:
        joints = store.read(0).observations["joints"]
    assert (told["environment"], told["actions"], told["steps"]) == ("arm", 2, 26)
    np.testing.assert_allclose(told["joints"], joints[:1], rtol=1e-6)
    np.testing.assert_allclose(told["next"], joints[1:2], rtol=1e-6)


def test_minari_reads_what_is_exported(arm_store: Path, tmp_path: Path) -> None:
    told = run("minari", READ_MINARI, exported(arm_store, "minari", tmp_path / "arm-v0"))
    with EpisodeStore.open(arm_store) as store:
        first = store.read(0)
    assert (told["steps"], told["lengths"], told["inside"]) == (26, [12, 5, 9], True)
    assert told["ends"] == [[True, False], [False, True], [True, False]]
    np.testing.assert_allclose(told["joints"], first.observations["joints"], rtol=1e-6)
    assert told["camera"] == first.observations["camera"][:, 0, 0, 0].tolist()
    assert told["nested"] == [13, 5, 7, 1]
    assert told["rewards"] == first.signals["reward"].tolist()


def test_what_minari_writes_is_imported(tmp_path: Path) -> None:
    run("minari", WRITE_MINARI, tmp_path)
    found = imported(tmp_path / "point-v0", "minari", control_rate_hz=20.0)
    assert [len(episode) for episode in found] == [5, 8, 5]
    assert [episode.info.ended for episode in found] == [Ended.TERMINATED, Ended.TRUNCATED, Ended.TERMINATED]
    assert [(episode.info.success, episode.info.seed) for episode in found] == [(True, 0), (False, 1), (True, 2)]
    np.testing.assert_array_equal(found[1].observations["position"][:, 0], np.arange(9))
    np.testing.assert_array_equal(found[1].observations["deep/n"], np.arange(9) % 5)
    assert np.abs(found[1].observations["camera"][:, 0, 0, 0] - 10.0 * np.arange(9)).max() <= 2


def test_lerobot_reads_what_is_exported(arm_store: Path, tmp_path: Path) -> None:
    told = run("lerobot", READ_LEROBOT, exported(arm_store, "lerobot", tmp_path / "arm"))
    with EpisodeStore.open(arm_store) as store:
        episodes = list(store)
    second = episodes[1]
    assert (told["episodes"], told["steps"], told["rate"]) == (3, 26, 15)
    assert (told["episode"], told["tasks"]) == (1, ["put the cube away"])
    state = np.concatenate([second.observations["joints"][1], second.observations["pose"][1].ravel()])
    np.testing.assert_allclose(told["state"], state, rtol=1e-6)
    np.testing.assert_allclose(told["action"], second.executed_actions[1], rtol=1e-6)
    assert told["policy"]["observation.images.camera"] == "VISUAL"
    joints = np.concatenate([e.observations["joints"][: len(e)] for e in episodes])
    np.testing.assert_allclose(told["mean"][:3], joints.mean(axis=0), rtol=1e-4)


def test_what_lerobot_writes_is_imported(tmp_path: Path) -> None:
    run("lerobot", WRITE_LEROBOT, tmp_path / "theirs")
    found = imported(tmp_path / "theirs", "lerobot")
    assert [len(episode) for episode in found] == [12, 13, 14]
    assert [episode.info.ended for episode in found] == [Ended.TERMINATED, Ended.TRUNCATED, Ended.TERMINATED]
    for number, episode in enumerate(found):
        t = np.arange(len(episode))
        np.testing.assert_array_equal(episode.observations["small"][:, 0, 0, 0], 5 * t + number)
        assert np.abs(episode.observations["top"][:, 0, 0, 0] - 20.0 * number - 10.0 * t).max() <= 3
        assert episode.info.task == "stack"


def test_zarr_2_reads_what_is_exported(arm_store: Path, tmp_path: Path) -> None:
    told = run("zarr", READ_ZARR, exported(arm_store, "replay_buffer", tmp_path / "arm"))
    with EpisodeStore.open(arm_store) as store:
        episodes = list(store)
    assert (told["ends"], told["lengths"]) == ([12, 17, 26], [26])
    joints = np.concatenate([e.observations["joints"][: len(e)] for e in episodes])
    np.testing.assert_allclose(told["joints"], joints, rtol=1e-6)
    assert told["camera"][:3] == episodes[0].observations["camera"][:3, 0, 0, 0].tolist()
    assert len(ARM.observation) == 6
