"""Episodes from actors to a learner and policies back, over a real socket."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from robot_rlpd.bridge import actor_wire
from robot_rlpd.bridge.actor_wire import Ask, Offer, Part, Wanted
from robot_rlpd.bridge.courier import Courier
from robot_rlpd.bridge.episode_codec import decode_episode, encode_episode
from robot_rlpd.bridge.episodes import MAX_COMPLETE, Inbox
from robot_rlpd.bridge.guarded_socket import MOST_MALFORMED
from robot_rlpd.bridge.learner_server import LearnerServer
from robot_rlpd.bridge.observer import Observer
from robot_rlpd.bridge.outbox import Outbox
from robot_rlpd.bridge.policies import PublishedPolicy, Shelf
from robot_rlpd.bridge.refusal import Refusal
from robot_rlpd.bridge.wire import Look, Refused, Seen
from robot_rlpd.episode import Episode, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import DataError, MismatchError, ProtocolError, RobotRlpdError, StoreError
from robot_rlpd.rollout import rollout
from robot_rlpd.specs import ArraySpec, RobotSpec, to_builtins
from robot_rlpd.spool import StoreListener
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMEOUT_S = 30.0


def episode(seed: int = 0) -> Episode:
    return rollout(FakeRobot(), FakePolicy(), FakeTask(), seed=seed, info=EpisodeInfo(notes="actor one"))


def assert_same(one: Episode, other: Episode) -> None:
    assert one.info == other.info
    assert one.spec == other.spec
    for name in ("actions", "executed_actions", "sources", "robot_times_s", "wall_times_s"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for group in ("observations", "signals"):
        for name, array in getattr(one, group).items():
            np.testing.assert_array_equal(getattr(other, group)[name], array)


class Learner:
    """What a session needs of the bridge, without training."""

    def __init__(self, path: Path, spec: RobotSpec | None = None, address: str = "tcp://127.0.0.1:0") -> None:
        self.spec = spec or fake_spec()
        self.store = EpisodeStore.create(path, self.spec, exist_ok=True)
        self.received: list[Episode] = []
        self.arrived = threading.Semaphore(0)
        self.shelf = Shelf()
        self.inbox = Inbox(
            self.spec.contract(),
            is_stored=lambda uuid: uuid in self.store,
            store=self.store.extend,
            received=self._take,
        )
        self.server = LearnerServer(address, contract=self.spec.contract(), inbox=self.inbox, shelf=self.shelf)

    def _take(self, episode: Episode) -> None:
        self.received.append(episode)
        self.arrived.release()

    def wait(self, episodes: int = 1) -> None:
        for _ in range(episodes):
            assert self.arrived.acquire(timeout=TIMEOUT_S)

    def close(self) -> None:
        self.server.close()
        self.store.close()

    def __enter__(self) -> Learner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def learner(tmp_path: Path) -> Iterator[Learner]:
    with Learner(tmp_path / "learner.zarr") as learner:
        yield learner


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox") as outbox:
        yield outbox


@contextlib.contextmanager
def courier_to(
    learner: Learner, outbox: Outbox, actor: str = "one", spec: RobotSpec | None = None
) -> Iterator[Courier]:
    courier = Courier(learner.server.address, outbox, actor=actor, spec=spec or fake_spec())
    try:
        yield courier
    finally:
        courier.close()


def test_an_episode_comes_back_from_its_bytes_as_it_was() -> None:
    before = episode()
    assert_same(before, decode_episode(encode_episode(before)))


def test_camera_images_travel_as_jpeg() -> None:
    spec = RobotSpec(
        name="seeing",
        observation=(ArraySpec(name="camera", shape=(16, 16, 3), dtype="uint8", is_image=True),),
        action=fake_spec().action,
        control_rate_hz=10.0,
    )
    before = Episode(
        spec=spec,
        observations={"camera": np.full((3, 16, 16, 3), 100, np.uint8)},
        actions=np.zeros((2, 2), np.float32),
        executed_actions=np.zeros((2, 2), np.float32),
        signals={},
        sources=np.zeros(2, np.uint8),
        robot_times_s=np.arange(3.0),
        wall_times_s=np.arange(3.0),
        info=EpisodeInfo(),
    )
    after = decode_episode(encode_episode(before))
    assert np.abs(after.observations["camera"].astype(int) - 100).max() <= 2


ENCODED = encode_episode(episode())


@given(st.integers(0, len(ENCODED) - 1), st.integers(0, 255), st.integers(0, len(ENCODED)))
def test_damaged_bytes_are_refused_or_still_an_episode_that_follows_its_spec(at: int, value: int, length: int) -> None:
    damaged = bytearray(ENCODED[:length])
    if at < len(damaged):
        damaged[at] = value
    with contextlib.suppress(RobotRlpdError):
        decode_episode(damaged).validate()


def test_what_is_in_the_outbox_is_delivered_and_forgotten_once_it_is_on_the_learners_disk(
    learner: Learner, outbox: Outbox, tmp_path: Path
) -> None:
    sent = [episode(seed) for seed in range(3)]
    for each in sent:
        assert outbox.append(each)
    with courier_to(learner, outbox) as courier:
        assert courier.wait_until_delivered(TIMEOUT_S)
        assert courier.delivered == 3
    with EpisodeStore.open(tmp_path / "learner.zarr") as store:
        for before, after in zip(sent, store, strict=True):
            assert_same(before, after)


def test_an_episode_that_is_delivered_again_is_stored_and_trained_on_once(learner: Learner, outbox: Outbox) -> None:
    again = episode()
    for _ in range(2):
        outbox.append(again)
        with courier_to(learner, outbox) as courier:
            assert courier.wait_until_delivered(TIMEOUT_S)
    assert (len(learner.store), len(learner.received)) == (1, 1)


def test_episodes_wait_while_the_learner_is_away_and_a_restarted_one_gets_each_once(
    tmp_path: Path, outbox: Outbox
) -> None:
    sent = [episode(seed) for seed in range(4)]
    outbox.append(sent[0])
    with Learner(tmp_path / "store.zarr") as first:
        address = first.server.address
        courier = Courier(address, outbox, actor="one", spec=fake_spec())
        first.wait()
    for each in sent[1:]:
        outbox.append(each)
    courier.hurry()
    assert len(outbox.pending()) == 3
    with Learner(tmp_path / "store.zarr", address=address) as second:
        second.wait(3)
        assert courier.wait_until_delivered(TIMEOUT_S)
        courier.close()
        assert [e.info.uuid for e in second.store] == [e.info.uuid for e in sent]


def test_a_killed_actors_running_episode_is_recovered_and_delivered(learner: Learner, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    class Fragile(FakeRobot):
        def step(self, action: Any) -> Any:
            if len(self.executed) == 1:
                raise KilledError
            return super().step(action)

    class Forgetful(StoreListener):
        """Dies before it can store anything."""

        def on_end(self, episode: Episode) -> None:
            assert self._writer is not None
            self._writer.close()

    with Outbox(tmp_path / "box") as box, pytest.raises(KilledError):
        rollout(Fragile(), FakePolicy(), FakeTask(), seed=1, identity="abc", listeners=(Forgetful(box),))
    with Outbox(tmp_path / "box") as box:
        assert [len(each) for each in box.recovered] == [1]
        with courier_to(learner, box) as courier:
            assert courier.wait_until_delivered(TIMEOUT_S)
    (stored,) = learner.store
    assert (stored.info.uuid, stored.info.ended, len(stored)) == ("abc", "interrupted", 1)


def test_several_actors_deliver_to_one_learner_and_are_told_apart(learner: Learner, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        for number, name in enumerate(("left", "right", "third")):
            box = stack.enter_context(Outbox(tmp_path / name))
            for seed in range(number + 1):
                box.append(episode(seed))
            stack.enter_context(courier_to(learner, box, actor=name))
        learner.wait(6)
    told = {name: actor["episodes"] for name, actor in learner.server.status()["actors"].items()}
    assert told == {"left": 1, "right": 2, "third": 3}


def test_an_actor_of_another_robot_is_refused_by_field_and_records_on(learner: Learner, outbox: Outbox) -> None:
    other = fake_spec(control_rate_hz=20.0)
    outbox.append(episode())
    with courier_to(learner, outbox, spec=other) as courier:
        while courier._refused is None:
            courier.wait_until_delivered(0.05)
        with pytest.raises(MismatchError, match="control_rate_hz"):
            courier.take()
        assert len(outbox.pending()) == 1


def test_an_episode_of_another_contract_is_set_aside_and_does_not_block_the_others(
    learner: Learner, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = rollout(FakeRobot(fake_spec(control_rate_hz=20.0)), FakePolicy(), FakeTask(), seed=0)
    outbox.append(foreign)
    outbox.append(episode())
    with courier_to(learner, outbox):
        learner.wait()
    assert len(learner.store) == 1
    assert "control_rate_hz" in caplog.text
    assert len(list(outbox.directory.glob("*.refused"))) == 1


def test_a_full_disk_at_the_learner_leaves_the_episode_where_it_is(tmp_path: Path, outbox: Outbox) -> None:
    tried = threading.Semaphore(0)
    with Learner(tmp_path / "l.zarr") as learner:

        def full(episodes: list[Episode]) -> int:
            tried.release()
            raise StoreError("cannot write: No space left on device", field="l.zarr")

        learner.inbox._store = full
        outbox.append(episode())
        with courier_to(learner, outbox):
            for _ in range(2):
                assert tried.acquire(timeout=TIMEOUT_S)
            assert len(outbox.pending()) == 1
            learner.inbox._store = learner.store.extend
            learner.wait()


def test_the_newest_policy_reaches_the_actor_whole_and_once(learner: Learner, outbox: Outbox) -> None:
    content = np.random.default_rng(0).bytes(2 * actor_wire.PART_BYTES + 17)
    learner.shelf.publish(PublishedPolicy(1, b"old"))
    learner.shelf.publish(PublishedPolicy(2, content))
    with courier_to(learner, outbox) as courier:
        while (policy := courier.take()) is None:
            courier.wait_until_delivered(0.05)
        assert policy == PublishedPolicy(2, content)
        courier.acts(policy)
        for _ in range(3):
            courier.wait_until_delivered(TIMEOUT_S)
        assert courier.take() is None
        assert learner.server.actors["one"].acting == policy.digest


def test_a_rejected_policy_is_told_to_the_learner_and_not_sent_again(learner: Learner, outbox: Outbox) -> None:
    learner.shelf.publish(PublishedPolicy(1, b"unfit"))
    with courier_to(learner, outbox) as courier:
        while (policy := courier.take()) is None:
            courier.wait_until_delivered(0.05)
        courier.reject(policy, "too slow")
        while not learner.server.actors["one"].rejected:
            courier.wait_until_delivered(TIMEOUT_S)
        assert learner.server.actors["one"].rejected == "too slow"
        assert courier.take() is None


class Bench:
    """A learner's inbox without a socket."""

    def __init__(self) -> None:
        self.stored: dict[str, Episode] = {}
        self.received: list[str] = []
        self.commits: list[int] = []
        self.bad: set[str] = set()
        self.inbox = Inbox(
            fake_spec().contract(),
            is_stored=self.stored.__contains__,
            store=self._store,
            received=lambda episode: self.received.append(episode.info.uuid),
        )

    def _store(self, episodes: list[Episode]) -> int:
        self.commits.append(len(episodes))
        for each in episodes:
            if each.info.uuid in self.bad:
                raise DataError("does not fit", field=each.info.uuid)
        self.stored |= {each.info.uuid: each for each in episodes}
        return len(episodes)

    def offer(self, uuid: str, data: bytes, **changes: Any) -> Wanted:
        fields = {"size": len(data), "digest": hashlib.sha256(data).hexdigest(), "version": 1, **changes}
        return self._settled(uuid, self.inbox.offer(Offer("r", actor="one", uuid=uuid, **fields)))

    def part(self, uuid: str, offset: int, data: bytes) -> Wanted:
        return self._settled(uuid, self.inbox.part(Part("r", "one", uuid, offset), data))

    def _settled(self, uuid: str, wanted: Wanted | None) -> Wanted:
        return wanted or Wanted("r", uuid, self.inbox.commit()[uuid].size, stored=True)

    def complete(self, sent: Episode) -> None:
        """All of an episode, which waits then."""
        data, uuid = encode_episode(sent), sent.info.uuid
        self.offer(uuid, data)
        assert self.inbox.part(Part("r", "one", uuid, 0), data) is None


@given(st.lists(st.sampled_from(["send", "repeat", "ahead", "offer", "other offer"]), max_size=20))
def test_whatever_is_repeated_or_overtaken_an_episode_is_stored_once_and_whole(events: list[str]) -> None:
    bench, sent = Bench(), episode()
    data, uuid, size = encode_episode(sent), sent.info.uuid, 500
    wanted = bench.offer(uuid, data)
    for event in [*events, *["send"] * (len(data) // size + 1)]:
        if wanted.stored:
            break
        if event == "offer":
            wanted = bench.offer(uuid, data)
        elif event == "other offer":
            bench.offer("other", b"x" * 100)
        else:
            start = {"repeat": wanted.offset - size, "ahead": wanted.offset + size}.get(event, wanted.offset)
            start = max(0, start)
            wanted = bench.part(uuid, start, data[start : start + size])
    assert wanted.stored
    assert bench.offer(uuid, data).stored
    assert bench.received == [uuid]
    assert_same(bench.stored[uuid], sent)


def test_episodes_that_wait_are_brought_to_the_disk_together_and_each_counts_once() -> None:
    bench, sent = Bench(), [episode() for _ in range(3)]
    for each in sent:
        bench.complete(each)
    assert bench.stored == {}
    assert bench.inbox.offer(Offer("r", 1, "one", sent[0].info.uuid, 1, "")) is None  # it waits; do not send it again
    assert all(stored.error is None for stored in bench.inbox.commit().values())
    assert bench.inbox.commit() == {}
    assert bench.commits == [3]
    assert bench.received == [each.info.uuid for each in sent] == list(bench.stored)
    assert (bench.inbox.num_episodes, bench.inbox.num_steps) == (3, sum(map(len, sent)))


def test_an_episode_that_cannot_be_stored_does_not_hold_up_those_that_wait_with_it() -> None:
    bench, sent = Bench(), [episode() for _ in range(3)]
    bench.bad = {sent[1].info.uuid}
    for each in sent:
        bench.complete(each)
    outcomes = [bench.inbox.commit()]
    assert [outcome.error is None for outcome in outcomes[0].values()] == [True, False, True]
    assert bench.received == [sent[0].info.uuid, sent[2].info.uuid] == list(bench.stored)
    assert bench.inbox.num_episodes == 2


def test_so_many_episodes_wait_at_most() -> None:
    bench = Bench()
    for _ in range(MAX_COMPLETE):
        assert not bench.inbox.is_full
        bench.complete(episode())
    assert bench.inbox.is_full


def test_an_actor_is_told_that_its_episode_is_stored_only_after_it_is(learner: Learner) -> None:
    server, sent = learner.server, episode()
    server.close()  # from here on it is asked directly
    data, uuid = encode_episode(sent), sent.info.uuid
    offer = Offer("o", 1, "one", uuid, len(data), hashlib.sha256(data).hexdigest())
    part = [bytes(frame) for frame in actor_wire.encode(Part("p", "one", uuid, 0), data)]
    assert server.answer(actor_wire.encode(offer), b"peer") is not None
    assert server.answer(part, b"peer") is None
    assert server.answer(part, b"the same, connected anew") is None
    assert len(learner.store) == 0
    answers = server.commit()
    assert len(learner.store) == 1
    assert [identity for identity, _ in answers] == [b"peer", b"the same, connected anew"]
    told = [actor_wire.decode(frames)[0] for _, frames in answers]
    assert told == [Wanted("p", uuid, len(data), stored=True)] * 2
    assert server.actors["one"].episodes == 1
    assert server.commit() == []


def test_what_sends_nothing_but_noise_is_not_read_any_more(learner: Learner) -> None:
    vandal: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    vandal.setsockopt(zmq.LINGER, 0)
    vandal.setsockopt(zmq.RCVTIMEO, int(1e3 * TIMEOUT_S))
    vandal.connect(learner.server.address)
    try:
        for _ in range(MOST_MALFORMED):
            vandal.send(b"noise")
            assert isinstance(actor_wire.decode([vandal.recv()])[0], Refused)
        vandal.send(bytes(actor_wire.encode(Look("n"))[0]))
        with Observer(learner.server.address) as observer:
            for _ in range(3):  # whoever else asks is answered, and in turn
                assert observer.status()["learner"] is True
        assert not vandal.poll(0)
    finally:
        vandal.close()


def test_bytes_other_than_those_offered_are_not_stored() -> None:
    bench, sent = Bench(), episode()
    data = encode_episode(sent)
    bench.offer(sent.info.uuid, data, digest="0" * 64)
    with pytest.raises(ProtocolError, match="not those that were offered"):
        bench.part(sent.info.uuid, 0, data)
    assert bench.stored == {}


def test_a_part_of_an_episode_that_was_not_offered_is_asked_to_be_offered() -> None:
    with pytest.raises(Refusal, match="offer it again"):
        Bench().part("unknown", 0, b"data")


@pytest.mark.parametrize("size", [0, -1, actor_wire.MAX_EPISODE_BYTES + 1])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ProtocolError, match="size"):
        Bench().offer("uuid", b"", size=size)


def test_another_version_is_refused(learner: Learner) -> None:
    ask = Ask("r", 99, "future", to_builtins(fake_spec()))
    (frame,) = learner.server.answer([bytes(f) for f in actor_wire.encode(ask)]) or []
    message, _ = actor_wire.decode([frame])
    assert isinstance(message, Refused)
    assert (message.code, message.nonce) == ("version", "r")


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_malformed_frames_are_answered(frames: list[bytes]) -> None:
    server = object.__new__(LearnerServer)
    server._refused, server.malformed = Counter(), 0
    answer = server.answer(frames)
    assert answer is not None
    (frame,) = answer
    assert isinstance(actor_wire.decode([frame])[0], Refused)


def test_anybody_may_look_at_the_learner(learner: Learner) -> None:
    (frame,) = learner.server.answer([bytes(f) for f in actor_wire.encode(Look("n"))]) or []
    message, _ = actor_wire.decode([frame])
    assert isinstance(message, Seen)
    assert message.status["learner"] is True


def test_an_outbox_belongs_to_one_actor_at_a_time(outbox: Outbox) -> None:
    with pytest.raises(StoreError, match="another actor uses it"):
        Outbox(outbox.directory)


def test_a_full_disk_at_the_actor_is_told(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> Any:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("robot_rlpd.bridge.outbox.replacing", full)
    with pytest.raises(StoreError, match="No space left"):
        outbox.append(episode())


def test_an_identity_that_is_no_file_name_is_refused(outbox: Outbox) -> None:
    with pytest.raises(StoreError, match="not the identity"):
        outbox.read("../../etc/passwd")
