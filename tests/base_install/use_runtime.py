"""Runs in a fresh environment that holds the base install and nothing else; exit status 0 is success.

`python use_runtime.py FOLDER`: FOLDER holds policy.onnx, which brings the fake robot to its target. The robot is served
over the bridge, the command `run` drives it with the file and records, and the store is read back.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
import threading
from pathlib import Path

from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.cli import main as run_command_line
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.testing import FakeRobot

ABSENT = ("torch", "mujoco", "gymnasium", "h5py")
EPISODES = 5


def main() -> int:
    found = [name for name in ABSENT if importlib.util.find_spec(name) is not None]
    if found:
        print(f"should not be installed: {', '.join(found)}")
        return 1
    folder = Path(sys.argv[1])
    finished = threading.Event()
    server = RobotServer(FakeRobot(), "tcp://127.0.0.1:0", pace="fast")
    thread = threading.Thread(target=server.serve_forever, args=(finished.is_set,))
    thread.start()
    printed = io.StringIO()
    arguments = ["run", str(folder / "policy.onnx"), "--robot", server.address, "--episodes", str(EPISODES)]
    try:
        with contextlib.redirect_stdout(printed):
            status = run_command_line([*arguments, "--record", str(folder / "deployed.zarr"), "--json"])
    finally:
        finished.set()
        thread.join()
    result = json.loads(printed.getvalue())
    with EpisodeStore.open(folder / "deployed.zarr") as store:
        recorded = [stored.info.success for stored in store.infos()]
    print(result)
    good = status == 0 and result["successes"] == EPISODES and recorded == [True] * EPISODES
    return 0 if good and not any(name in sys.modules for name in ABSENT) else 1


if __name__ == "__main__":
    sys.exit(main())
