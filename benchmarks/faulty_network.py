"""Networks that misbehave, for benchmarks of the bridge: one between messages, one between bytes."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import select
import socket
import threading
import time
from collections import Counter
from typing import Any, Self

import numpy as np
import zmq

DELAY_S = 0.03
"""A delayed message comes up to this much later; one that is to be overtaken waits as long for another to come."""
SHARE = 0.05
SESSIONS_KEPT = 8
"""Connections of earlier sessions whose late messages still arrive."""


class FaultyMessages:
    """Loses, delays, doubles and reorders messages in both directions, each with the same probability.

    Args:
        server: Address behind it, in the clear.
        share: Probability of each of the four.
        seed: Decides which.
    """

    def __init__(self, server: str, *, share: float = SHARE, seed: int = 0) -> None:
        self._server, self._share = server, share
        self._rng = np.random.default_rng(seed)
        self._context = zmq.Context()
        self._front = self._context.socket(zmq.ROUTER)
        self._front.bind("tcp://127.0.0.1:0")
        self.address = self._front.getsockopt_string(zmq.LAST_ENDPOINT)
        self._backs: dict[bytes, zmq.Socket[bytes]] = {}
        self._late: list[tuple[float, int, zmq.Socket[bytes], list[bytes]]] = []
        self._count = itertools.count()
        self.faults = Counter[str]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._front, zmq.POLLIN)
        while not self._over.is_set():
            wait_ms = 50 if not self._late else max(0, int((self._late[0][0] - time.monotonic()) * 1e3))
            for ready, _ in poller.poll(min(50, wait_ms)):
                if ready == self._front:
                    client, *frames = ready.recv_multipart()
                    self._pass(self._back_of(client, poller), frames)
                elif not ready.closed:
                    client = next(name for name, back in self._backs.items() if back == ready)
                    self._pass(self._front, [client, *ready.recv_multipart()])
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, to, frames = heapq.heappop(self._late)
                to.send_multipart(frames)

    def _back_of(self, client: bytes, poller: zmq.Poller) -> zmq.Socket[bytes]:
        if client not in self._backs:
            while len(self._backs) >= SESSIONS_KEPT:
                old = self._backs.pop(next(iter(self._backs)))
                self._late = [late for late in self._late if late[2] != old]
                heapq.heapify(self._late)
                poller.unregister(old)
                old.close(linger=0)
            back = self._context.socket(zmq.DEALER)
            back.connect(self._server)
            poller.register(back, zmq.POLLIN)
            self._backs[client] = back
        return self._backs[client]

    def _pass(self, to: zmq.Socket[bytes], frames: list[bytes]) -> None:
        drawn = int(self._rng.random() / self._share) if self._share else 4
        self.faults["messages"] += 1
        kinds = ("dropped", "delayed", "doubled", "reordered")
        if drawn < len(kinds):
            self.faults[kinds[drawn]] += 1
        if drawn == 0:
            return
        if drawn == 1:
            self._later(DELAY_S * self._rng.random(), to, frames)
        elif drawn == 2:
            to.send_multipart(frames)
            self._later(DELAY_S * self._rng.random(), to, frames)
        elif drawn == 3:
            self._later(DELAY_S, to, frames)
        else:
            to.send_multipart(frames)

    def _later(self, delay_s: float, to: zmq.Socket[bytes], frames: list[bytes]) -> None:
        heapq.heappush(self._late, (time.monotonic() + delay_s, next(self._count), to, frames))


class FaultyConnections:
    """Cuts and stalls TCP connections at random; what it carries may be encrypted.

    Args:
        server: Address behind it.
        every_s: Mean time between two faults, in seconds.
        seed: Decides when.
    """

    def __init__(self, server: str, *, every_s: float = 0.1, seed: int = 0) -> None:
        host, _, port = server.removeprefix("tcp://").rpartition(":")
        self._server = (host, int(port))
        self._every_s = every_s
        self._rng = np.random.default_rng(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._other: dict[socket.socket, socket.socket] = {}
        self.faults = Counter[str]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._cut()
        self._listener.close()

    def _run(self) -> None:
        next_s = time.monotonic() + self._every_s
        while not self._over.is_set():
            for ready in select.select([self._listener, *self._other], [], [], 0.02)[0]:
                self._serve(ready)
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + float(self._rng.exponential(self._every_s))
                if self._rng.random() < 0.5:
                    self.faults["cut"] += len(self._other) // 2
                    self._cut()
                else:
                    self.faults["stalled"] += 1
                    self._over.wait(float(self._rng.uniform(0.0, 0.1)))

    def _serve(self, ready: socket.socket) -> None:
        if ready is self._listener:
            accepted, _ = self._listener.accept()
            try:
                behind = socket.create_connection(self._server)
            except OSError:
                accepted.close()
                return
            self._other |= {accepted: behind, behind: accepted}
            return
        if ready not in self._other:
            return
        try:
            data = ready.recv(1 << 16)
            if data:
                self._other[ready].sendall(data)
                return
        except OSError:
            pass
        for end in (self._other.pop(ready), ready):
            self._other.pop(end, None)
            end.close()

    def _cut(self) -> None:
        for end in self._other:
            with contextlib.suppress(OSError):
                end.close()
        self._other.clear()


Network = FaultyMessages | FaultyConnections


def told(network: Network) -> dict[str, Any]:
    """What it did."""
    return dict(network.faults)
