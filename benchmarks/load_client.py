"""The closed-loop client of ``benchmarks/load.py``; its own process has its own interpreter lock.

Each line of standard input is one round as JSON, each line of output its results. A connection sends its next request
``think`` seconds after the last answer (closed loop).
"""

from __future__ import annotations

import heapq
import itertools
import json
import selectors
import socket
import sys
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

RENEWED_AFTER = 50
"""Answers after which a connection is opened anew: which worker takes how many is chance, and must not last a round."""
PATIENCE = 30.0
"""Seconds after the end of a round within which pending requests must have been answered."""


@dataclass
class Group:
    """Connections of one kind of user.

    :param requests: whole requests; each connection takes the next one in turn.
    :param body: the body of a right answer; others count as ``wrong``.
    :param think: seconds between an answer and the next request.
    """

    name: str
    requests: list[str]
    connections: int = 1
    body: str = ""
    think: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    last: float = 0.0

    def told(self, began: float, seconds: float) -> dict[str, Any]:
        """Return the figures of a round: right answers until this group's last one, latencies in milliseconds."""
        seconds = max(seconds, self.last - began)
        ordered = sorted(self.latencies)
        return {
            "per_second": len(self.latencies) / seconds,
            "p50": 1000 * ordered[len(ordered) // 2] if ordered else None,
            "p99": 1000 * ordered[int(len(ordered) * 0.99)] if ordered else None,
            "statuses": dict(self.statuses),
            "wrong": self.wrong,
        }


class Connection:
    """One user: a connection that is kept, and opened anew where the server closes it."""

    def __init__(self, address: tuple[str, int], group: Group, first: int) -> None:
        self.group = group
        self.stream: socket.socket | None = None
        self._address = address
        self._requests = itertools.cycle(request.encode("latin-1") for request in group.requests)
        for _ in range(first):
            next(self._requests)
        self._began = 0.0
        self._received = bytearray()
        self._answers = 0

    def send(self, selector: selectors.BaseSelector) -> None:
        """Send the next request."""
        if self.stream is None:
            self.stream = socket.create_connection(self._address, timeout=PATIENCE)
            self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(self.stream, selectors.EVENT_READ, self)
        self._began = perf_counter()
        self.stream.sendall(next(self._requests))

    def receive(self, selector: selectors.BaseSelector) -> bool:
        """Read the received data; return whether the answer is complete."""
        assert self.stream is not None
        data = self.stream.recv(65536)
        self._received += data
        head, found, rest = bytes(self._received).partition(b"\r\n\r\n")
        if found:
            headers = head.decode("latin-1").lower()
            length = int(headers.partition("content-length:")[2].partition("\r\n")[0])
            if len(rest) >= length:
                self._note(headers, rest[:length])
                self._answers += 1
                if "connection: close" in headers or self._answers % RENEWED_AFTER == 0:
                    self.close(selector)
                return True
        if not data:
            raise ConnectionError(f"{self.group.name}: the server closed the connection amid an answer")
        return False

    def close(self, selector: selectors.BaseSelector) -> None:
        """Let the connection go."""
        if self.stream is not None:
            selector.unregister(self.stream)
            self.stream.close()
            self.stream = None

    def _note(self, headers: str, body: bytes) -> None:
        status = headers.split(" ", 2)[1]
        self._received.clear()
        self.group.statuses[status] += 1
        self.group.last = perf_counter()
        if status == "200" and body == self.group.body.encode():
            self.group.latencies.append(self.group.last - self._began)
        else:
            self.group.wrong += 1


def run(port: int, seconds: float, groups: list[Group]) -> dict[str, dict[str, Any]]:
    """Send the requests of all groups for some seconds, and return the results."""
    connections = [
        Connection(("127.0.0.1", port), group, first) for group in groups for first in range(group.connections)
    ]
    with selectors.DefaultSelector() as selector:
        began = perf_counter()
        due = [(began, place) for place in range(len(connections))]
        asking = 0
        while True:
            now = perf_counter()
            over = now - began >= seconds
            while due and due[0][0] <= now and not over:
                connections[heapq.heappop(due)[1]].send(selector)
                asking += 1
            if over and not asking:
                break
            if now - began > seconds + PATIENCE:
                raise TimeoutError(f"{asking} requests were not answered")
            wait = 0.5 if over or not due else min(due[0][0], began + seconds) - now
            for key, _ in selector.select(max(0.0, wait)):
                one: Connection = key.data
                if one.receive(selector):
                    asking -= 1
                    heapq.heappush(due, (perf_counter() + one.group.think, connections.index(one)))
        for one in connections:
            one.close(selector)
    return {group.name: group.told(began, seconds) for group in groups}


def main() -> None:
    """Run each requested round."""
    for line in sys.stdin:
        asked = json.loads(line)
        found = run(asked["port"], asked["seconds"], [Group(**group) for group in asked["groups"]])
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
