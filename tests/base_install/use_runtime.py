"""Runs in a fresh environment that holds the base install and nothing else; exit status 0 is success.

`python use_runtime.py FOLDER [--encrypt]`: FOLDER holds policy.onnx, which brings the fake robot to its target. The
robot is served over the bridge, the command `run` drives it with the file and records, and the store is read back. With
--encrypt robot and client make key pairs and the connection is CURVE; a client that is not listed is turned away.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.keys import Keyring
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.cli import main as run_command_line
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import RefusedError
from robot_rlpd.testing import FakeRobot

if TYPE_CHECKING:
    from collections.abc import Iterator

ABSENT = ("torch", "mujoco", "gymnasium", "h5py")
EPISODES = 5


def command(*words: str) -> tuple[int, dict[str, Any]]:
    """Exit status and answer of a command."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = run_command_line([*words, "--json"])
    return status, json.loads(printed.getvalue())


def serve(folder: Path, encrypt: bool) -> RobotServer:
    """The robot's side, and with encryption the keys of both sides."""
    if not encrypt:
        return RobotServer(FakeRobot(), "tcp://127.0.0.1:0", pace="fast")
    robot = str(folder / "robot_keys")
    os.environ["ROBOT_RLPD_KEYS"] = str(folder / "client_keys")
    _, server = command("keys", "make", "--directory", robot)
    _, client = command("keys", "make")
    made = RobotServer(FakeRobot(), "tcp://127.0.0.1:0", pace="fast", encrypt=True, keyring=Keyring(Path(robot)))
    command("keys", "allow", "laptop", client["public_key"], "--directory", robot)
    command("keys", "pin", made.address, server["public_key"])
    return made


def lets_strangers_in(server: RobotServer, folder: Path) -> bool:
    """Whether a client that is not listed gets through."""
    stranger = Keyring(folder / "strange_keys")
    stranger.make()
    stranger.pin(server.address, server.public_key)
    try:
        RemoteRobot(server.address, connect_timeout_s=5.0, keyring=stranger).close()
    except RefusedError:
        return False
    return True


@contextlib.contextmanager
def serving(server: RobotServer) -> Iterator[None]:
    """Serve in a thread of its own."""
    finished = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(finished.is_set,))
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def main() -> int:
    found = [name for name in ABSENT if importlib.util.find_spec(name) is not None]
    if found:
        print(f"should not be installed: {', '.join(found)}")
        return 1
    folder, encrypt = Path(sys.argv[1]), "--encrypt" in sys.argv[2:]
    server = serve(folder, encrypt)
    run = ("run", str(folder / "policy.onnx"), "--robot", server.address, "--episodes", str(EPISODES))
    with serving(server):
        if encrypt and lets_strangers_in(server, folder):
            return 1
        status, result = command(*run, "--record", str(folder / "deployed.zarr"))
    with EpisodeStore.open(folder / "deployed.zarr") as store:
        recorded = [stored.info.success for stored in store.infos()]
    print(result)
    good = status == 0 and result["successes"] == EPISODES and recorded == [True] * EPISODES
    return 0 if good and not any(name in sys.modules for name in ABSENT) else 1


if __name__ == "__main__":
    sys.exit(main())
