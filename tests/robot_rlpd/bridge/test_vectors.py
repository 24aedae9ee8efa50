"""The test vectors of the protocol are what is sent, and are understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from robot_rlpd.bridge import actor_wire, wire
from robot_rlpd.robot import StepResult
from robot_rlpd.specs import to_builtins
from robot_rlpd.testing import fake_spec

FILE = Path(__file__).parents[3] / "docs" / "protocol-vectors.json"
ACTION = np.array([0.5, -1.0], np.float32)
SPEC = to_builtins(fake_spec())
ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "observation.position": np.array([1.5, -2.0], np.float32),
    "observation.camera": np.arange(40 * 40 * 3, dtype=np.uint8).reshape(40, 40, 3) % 251,
    "signals.success": np.array(True),
    "executed_action": ACTION,
}
SENT: dict[str, list[Any]] = {
    "hello": [wire.encode(wire.Hello(wire.PROTOCOL_VERSION, "learner", "n1", to_builtins(fake_spec().contract())))],
    "hello, any robot, in place of a session": [
        wire.encode(wire.Hello(wire.PROTOCOL_VERSION, "learner", "n1", None, "5e55"))
    ],
    "welcome": [
        wire.encode(
            wire.Welcome(wire.PROTOCOL_VERSION, "n1", "5e55", "host", SPEC, fake_spec().fingerprint, "real", 5.0)
        )
    ],
    "reset": [wire.encode(wire.Reset("5e55", 1, 7, {"height_m": 0.1}))],
    "reset, all left to the robot": [wire.encode(wire.Reset("5e55", 1))],
    "step": wire.encode_step("5e55", 7, ACTION),
    "reply, with an array of its own frame": wire.encode_reply(7, StepResult({}, robot_time_s=12.5), ARRAYS),
    "reply, with a fault": wire.encode_reply(
        7, StepResult({}, robot_time_s=12.5, fault="joint 3 too hot"), {"executed_action": ACTION}
    ),
    "stop": [wire.encode(wire.Stop("5e55", "enough"))],
    "stopped": [wire.encode(wire.Stopped("5e55"))],
    "bye": [wire.encode(wire.Bye("5e55"))],
    "look": [wire.encode(wire.Look("n2", observation=True))],
    "seen": wire.encode_seen("n2", {"commander": "learner"}, None, {"observation.position": ACTION}),
    "refused": [wire.encode(wire.Refused("spec", "", 7, "", "action[x]", "nan", "finite numbers"))],
    "offer": actor_wire.encode(actor_wire.Offer("r1", 1, "left", "abc", 5, "00" * 32)),
    "part": actor_wire.encode(actor_wire.Part("r2", "left", "abc", 0), b"bytes"),
    "wanted": actor_wire.encode(actor_wire.Wanted("r2", "abc", 5, stored=True)),
    "ask": actor_wire.encode(actor_wire.Ask("r3", 1, "left", SPEC, pending=2)),
    "current": actor_wire.encode(actor_wire.Current("r3", 4000, "11" * 32, 3)),
    "fetch": actor_wire.encode(actor_wire.Fetch("r4", "11" * 32, 0)),
    "piece": actor_wire.encode(actor_wire.Piece("r4", "11" * 32, 0), b"abc"),
}


def vectors() -> dict[str, Any]:
    """What the file has to hold."""
    return {
        name: {"header": shown(frames[0]), "frames": [bytes(frame).hex() for frame in frames]}
        for name, frames in SENT.items()
    }


def shown(frame: Any) -> dict[str, Any]:
    """A header for JSON: bytes in hexadecimal."""
    header: dict[str, Any] = msgspec.msgpack.decode(frame)
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in header.items()}


def test_the_file_holds_what_is_sent() -> None:
    assert json.loads(FILE.read_text()) == json.loads(json.dumps(vectors()))


@pytest.mark.parametrize("name", SENT)
def test_every_vector_is_understood_as_it_was_meant(name: str) -> None:
    vector = json.loads(FILE.read_text())[name]
    frames = [bytes.fromhex(frame) for frame in vector["frames"]]
    decoded: Any
    if list(SENT).index(name) < list(SENT).index("offer"):
        decoded, layout, arrays = wire.decode(frames)
        if layout is not None:
            assert [entry.name for entry in layout.entries] == [row[0] for row in vector["header"]["arrays"]]
            for array_name, array in arrays.items():
                expected = ARRAYS.get(array_name, ACTION)
                if array_name != "observation.position":
                    np.testing.assert_array_equal(array, expected)
    else:
        decoded, _ = actor_wire.decode(frames)
    for key, value in vector["header"].items():
        if key not in ("type", "arrays", "packed"):
            assert getattr(decoded, key) == value
    assert type(decoded).__name__.lower() == vector["header"]["type"]
