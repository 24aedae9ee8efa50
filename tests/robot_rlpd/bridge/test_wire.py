"""The wire: messages and arrays survive a round trip, and no bytes whatsoever do harm."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as numpy_strategies
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rlpd.bridge import wire
from robot_rlpd.bridge.arrays import MAX_ARRAY_BYTES, PACKED_BYTES, Layout, layout_of
from robot_rlpd.bridge.refusal import Refusal, error_of, refused
from robot_rlpd.bridge.templates import reply_template, step_template
from robot_rlpd.errors import MismatchError, ProtocolError, RobotError, RobotRlpdError, SpecError
from robot_rlpd.robot import StepResult
from robot_rlpd.specs import DTYPES

PROTOCOL = Path(__file__).parents[3] / "docs" / "protocol.md"

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
options = st.none() | st.dictionaries(st.text(max_size=5), plain, max_size=3)
sequences = st.integers(0, 2**63)
text = st.text(max_size=10)
arrays = st.dictionaries(
    text,
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: numpy_strategies.arrays(dtype, numpy_strategies.array_shapes(min_dims=0, max_dims=3, min_side=0))
    ),
    max_size=6,
)
messages = st.one_of(
    st.builds(wire.Hello, st.integers(0, 9), text, text, options, text),
    st.builds(wire.Welcome, st.integers(0, 9), text, text, text, options.filter(bool), text, text, st.floats(0, 9)),
    st.builds(wire.Reset, text, sequences, st.none() | sequences, options),
    st.builds(wire.Stop, text, text),
    st.builds(wire.Bye, text),
    st.builds(wire.Stopped, text),
    st.builds(wire.Refused, text, text, sequences, text, text, text, text, text),
)


@given(messages)
def test_every_message_survives_a_round_trip(message: wire.AnyMessage) -> None:
    assert wire.decode([wire.encode(message)])[0] == message


@given(sequences, st.floats(allow_nan=False), text, arrays)
def test_arrays_survive_a_round_trip_in_order(
    sequence: int, time_s: float, fault: str, sent: dict[str, np.ndarray[Any, Any]]
) -> None:
    frames = wire.encode_reply(sequence, StepResult({}, robot_time_s=time_s, fault=fault), sent)
    message, _, received = wire.decode([bytes(frame) for frame in frames])
    assert isinstance(message, wire.Reply)
    assert (message.sequence, message.robot_time_s, message.fault) == (sequence, time_s, fault)
    assert list(received) == list(sent)
    for name, array in sent.items():
        assert received[name].dtype == array.dtype
        assert received[name].shape == array.shape
        assert received[name].tobytes() == array.tobytes()


@given(sequences, st.floats(allow_nan=False), arrays)
def test_a_template_makes_and_reads_the_same_frames_as_the_whole_message(
    sequence: int, time_s: float, sent: dict[str, np.ndarray[Any, Any]]
) -> None:
    template = reply_template(layout_of(sent))
    whole = [*map(bytes, wire.encode_reply(sequence, StepResult({}, robot_time_s=time_s), sent))]
    frames = [*map(bytes, template.frames(sequence, sent, time_s))]
    if layout_of(sent).packed_size:
        assert frames == whole
    read, (message, _, decoded) = template.read(frames, sequence), wire.decode(whole)
    assert isinstance(message, wire.Reply)
    assert read is not None
    assert read[0] == message.robot_time_s == time_s
    assert [(name, a.dtype, a.shape, a.tobytes()) for name, a in read[1].items()] == [
        (name, a.dtype, a.shape, a.tobytes()) for name, a in decoded.items()
    ]
    assert template.read(frames, sequence + 1) is None


@given(sequences, st.integers(1, 1500))
def test_a_template_of_steps_makes_and_reads_the_same_frames_as_the_whole_message(sequence: int, size: int) -> None:
    action = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    template = step_template("5e55", size)
    frames, whole = template.frames(sequence, {"action": action}), wire.encode_step("5e55", sequence, action)
    if 4 * size <= PACKED_BYTES:
        assert frames == whole
    frames = [*map(bytes, frames)]
    assert wire.decode(frames)[2]["action"].tobytes() == action.tobytes()
    read = template.read(frames, sequence)
    assert read is not None
    assert read[1]["action"].tobytes() == action.tobytes()
    assert step_template("5e56", size).read(frames, sequence) is None
    assert step_template("5e55", size + 1).read(frames, sequence) is None


@given(st.data())
def test_a_template_reads_damaged_frames_as_the_decoder_does_or_leaves_them_to_it(data: st.DataObject) -> None:
    sent = {"state": np.arange(3, dtype=np.float32), "flag": np.array(True)}
    template = reply_template(layout_of(sent))
    frame = bytearray(bytes(template.frames(300, sent, 1.5)[0]))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(frame[: data.draw(st.sampled_from([len(frame), len(frame) - 1, 20]))])
    if (read := template.read([damaged], 300)) is not None:
        message, _, decoded = wire.decode([damaged])
        assert isinstance(message, wire.Reply)
        assert (message.sequence, np.float64(message.robot_time_s).tobytes()) == (300, np.float64(read[0]).tobytes())
        assert {name: a.tobytes() for name, a in decoded.items()} == {name: a.tobytes() for name, a in read[1].items()}


@pytest.mark.parametrize("frames", [[], [b""], [bytearray(b"\x85")], [memoryview(b"\x85")]])
def test_a_template_leaves_what_it_does_not_know_to_the_decoder(frames: list[Any]) -> None:
    assert step_template("5e55", 2).read(frames, 1) is None


def test_received_arrays_are_writable_and_large_ones_have_their_own_frame() -> None:
    sent = {
        "image": np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)[:, ::-1],
        "flag": np.array(True),
        "state": np.arange(3, dtype=np.float32),
    }
    frames = wire.encode_reply(1, StepResult({}), sent)
    assert [len(frame) for frame in frames[1:]] == [sent["image"].nbytes]
    message, _, received = wire.decode([bytes(frame) for frame in frames])
    assert isinstance(message, wire.Reply)
    assert len(message.packed) == 8 + 16
    for name, array in sent.items():
        np.testing.assert_array_equal(received[name], array)
        assert received[name].flags.writeable
        assert received[name].flags.aligned


@given(st.lists(st.binary(max_size=64), max_size=4))
def test_random_frames_are_a_protocol_error_at_worst(frames: list[bytes]) -> None:
    with contextlib.suppress(ProtocolError):
        wire.decode(frames)


@given(messages, st.data())
def test_damaged_messages_are_a_protocol_error_at_worst(message: wire.AnyMessage, data: st.DataObject) -> None:
    frame = bytearray(wire.encode(message))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        wire.decode([bytes(frame[: data.draw(st.integers(0, len(frame)))])])


@given(plain)
def test_any_table_of_arrays_is_a_protocol_error_at_worst(table: Any) -> None:
    header = {"type": "step", "session": "s", "sequence": 1, "arrays": table}
    for packed in ({}, {"packed": b"x" * 8}, {"packed": 3}):
        with contextlib.suppress(ProtocolError):
            wire.decode([msgspec.msgpack.encode(header | packed), b""])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([["a", "object", [1]]], "dtype object"),
        ([["a", "float32", [-1, -1]]], "shape"),
        ([["a", "float32", [1] * 9]], "up to 8 axes"),
        ([["a", "uint8", [2**62, 2**62]]], f"up to {MAX_ARRAY_BYTES} B"),
        ([["a", "uint8", [1]], ["a", "uint8", [1]]], "different names"),
        ([[str(i), "uint8", [0]] for i in range(300)], "up to 256"),
        ([["a", "float32", [2]]], "packed: found 1 B; allowed: 8 B"),
    ],
)
def test_a_table_that_is_not_allowed_is_refused_by_name(table: Any, said: str) -> None:
    header = {"type": "step", "session": "s", "sequence": 1, "arrays": table, "packed": b"x"}
    with pytest.raises(ProtocolError, match=re.escape(said)):
        wire.decode([msgspec.msgpack.encode(header)])


@pytest.mark.parametrize("frames", [[], [b"x"], [b"x" * 8000, b""]])
def test_a_large_array_that_is_not_there_is_refused(frames: list[bytes]) -> None:
    header = {"type": "step", "session": "s", "sequence": 1, "arrays": [["a", "float32", [2000]]]}
    with pytest.raises(ProtocolError, match=re.escape("allowed: [8000] B")):
        wire.decode([msgspec.msgpack.encode(header), *frames])


def test_frames_that_no_array_needs_are_refused() -> None:
    header = {"type": "step", "session": "s", "sequence": 1, "arrays": [["a", "uint8", [1]]], "packed": bytes(8)}
    with pytest.raises(ProtocolError, match=re.escape("frames: found [4] B; allowed: [] B")):
        wire.decode([msgspec.msgpack.encode(header), b"more"])


def test_object_arrays_are_never_sent() -> None:
    with pytest.raises(ProtocolError, match="dtype object"):
        layout_of({"a": np.array([{}], dtype=object)})


def test_arrays_of_foreign_byte_order_are_never_sent() -> None:
    with pytest.raises(ProtocolError, match="native byte order"):
        layout_of({"a": np.array([1.0], dtype=">f4")})


def test_arrays_after_a_message_without_any_are_refused() -> None:
    with pytest.raises(ProtocolError, match="frames"):
        wire.decode([wire.encode(wire.Bye("s")), b"more"])


def test_what_is_not_plain_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="cannot be sent"):
        wire.encode(wire.Reset("s", 1, None, {"callback": object()}))
    with pytest.raises(ProtocolError, match="cannot be sent"):
        wire.encode(wire.Reset("s", 1, 2**70))


def test_deeply_nested_messages_are_refused() -> None:
    nested = b"\x91" * 100_000 + b"\xc0"
    with pytest.raises(ProtocolError):
        wire.decode([b"\x83\xa4type\xa5reset\xa7session\xa1s\xa7options" + nested])


@pytest.mark.parametrize(
    "error",
    [
        SpecError(field="action[x]", found="nan", allowed="finite numbers"),
        MismatchError("does not fit", field="control_rate_hz", found="10.0", allowed="20.0"),
        RobotError("out of reach", hint="move it by hand"),
        Refusal("seat", "commanded by 'a'", found="b", allowed="one commander at a time"),
        ProtocolError(field="frames", found="3", allowed="1"),
    ],
)
def test_errors_arrive_as_what_they_were(error: RobotRlpdError) -> None:
    again = error_of(refused(error, sequence=3))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_names_from_outside_are_harmless_to_print() -> None:
    assert wire.printable("a\x1b[2J\nb") == "a?[2J?b"
    assert len(wire.printable("x" * 1000)) == wire.MAX_NAME_LENGTH


def test_layouts_pad_to_eight_bytes() -> None:
    layout = Layout(layout_of({"a": np.zeros(3, np.uint8), "b": np.zeros(2)}).entries)
    assert layout.pack({"a": np.arange(3, dtype=np.uint8), "b": np.zeros(2)}) == bytearray(b"\0\1\2" + bytes(5 + 16))


def test_the_documented_example_is_what_is_sent() -> None:
    documented = re.findall(r"^    frame \d: ([0-9a-f ]+)$", PROTOCOL.read_text(), re.MULTILINE)
    frames = wire.encode_step("5e55", 7, np.array([0.5, -1.0], np.float32))
    assert [bytes.fromhex(line) for line in documented] == [bytes(frame) for frame in frames]
