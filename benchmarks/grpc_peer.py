"""LeRobot's pattern over gRPC, a stream with the observation and then a call; for `benchmarks.bridge_latency`.

Run by an interpreter that has grpcio and needs nothing else; bytes are sent as they are, without protobuf or pickle.
The server is a process of its own. For every line that arrives here one exchange is made, and its microseconds are
printed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent import futures
from typing import Any

import grpc

ACTION, OBSERVATION = bytes(28 * 4), bytes(39 * 4)
SERVICE = "peer.Peer"


def serve() -> None:
    """Answer until killed; prints the port."""

    def take(messages: Any, context: object) -> bytes:
        del context
        for _ in messages:
            pass
        return b""

    handlers = {
        "SendObservations": grpc.stream_unary_rpc_method_handler(take),
        "GetActions": grpc.unary_unary_rpc_method_handler(lambda request, context: ACTION),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    server.start()
    server.wait_for_termination()


def main() -> None:
    """One exchange per line of standard input."""
    with subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        channel = grpc.insecure_channel(f"127.0.0.1:{server.stdout.readline().strip()}")
        send, get = channel.stream_unary(f"/{SERVICE}/SendObservations"), channel.unary_unary(f"/{SERVICE}/GetActions")
        try:
            for _ in sys.stdin:
                began_s = time.perf_counter()
                send(iter([OBSERVATION]))
                assert get(b"") == ACTION
                sys.stdout.write(f"{(time.perf_counter() - began_s) * 1e6}\n")
                sys.stdout.flush()
        finally:
            server.kill()


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
