"""Cheap readers of event streams, in a process of their own: raw sockets, one epoll, no parsing that is not needed.

A stand-alone program on the standard library: the first line of standard input is the specification in JSON (see
`crowd.py`). It prints a line when every stream is ready, and its findings, in JSON, when every stream has ended or
standard input closes.

Messages are those of `messages.py`: they end in `"t":<time sent, monotonic ns>,"k":"<kind>"}`. The *probes* time
each of their messages; all other streams only look for the last one.
"""

from __future__ import annotations

import json
import re
import resource
import select
import socket
import sys
import time
from typing import Any

CHUNK = 256 * 1024
TIMED = r'"t":(\d+),"k":"m"'
"""Where a message says when it was sent, unless the specification says otherwise."""
WARM, END, HEAD = b'"k":"w"}', b'"k":"e"}', b"\r\n\r\n"
OK = b"HTTP/1.1 200"
TAIL = 32
"""A marker lies within so many bytes of the end of what was sent with it, unless the specification says more."""


class Stream:
    """One connection. `stage`: 0 until it is ready, then 1, and 2 when it has ended."""

    __slots__ = ("latencies", "opened", "probe", "rest", "sock", "stage")

    def __init__(self, host: str, port: int, path: str, *, probe: bool) -> None:
        """Connect and ask."""
        self.sock = socket.create_connection((host, port))
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode())
        self.sock.settimeout(0)
        self.rest = b""
        self.stage = 0
        self.probe = probe
        self.opened = False
        self.latencies: list[int] = []


class Crowd:
    """All streams of this process."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Open them."""
        self.mark = WARM if spec["warm"] else HEAD
        self.tail = spec.get("tail", TAIL)
        self.timed = re.compile(spec.get("timed", TIMED).encode())
        self.poll = select.epoll()
        self.streams: dict[int, Stream] = {}
        for path in spec["paths"]:
            for _ in range(spec["per_path"]):
                stream = Stream(spec["host"], spec["port"], path, probe=spec["probe"])
                self.streams[stream.sock.fileno()] = stream
                self.poll.register(stream.sock, select.EPOLLIN)
        self.waiting = self.going = len(self.streams)
        self.size = self.lost = self.ended_at = 0
        self.cpu = 0.0

    def follow(self) -> None:
        """Read until every stream has ended, or standard input has."""
        self.poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
        while self.going:
            for fd, _ in self.poll.poll():
                stream = self.streams.get(fd)
                if stream is None:
                    return
                chunk = stream.sock.recv(CHUNK)
                now = time.monotonic_ns()
                if chunk:
                    self.take(stream, chunk, now)
                else:
                    self.poll.unregister(fd)
                    self.lost += 1
                    self.going -= 1

    def take(self, stream: Stream, chunk: bytes, now: int) -> None:
        """Look at what came."""
        self.size += len(chunk)
        if not stream.opened and not chunk.startswith(OK):
            sys.exit(f"a stream was refused: {chunk[:200]!r}")
        stream.opened = True
        text = chunk if len(chunk) > self.tail and stream.stage and not stream.probe else stream.rest + chunk
        if stream.stage == 0 and self.mark in text:
            stream.stage = 1
            self.waiting -= 1
            if not self.waiting:
                self.cpu, self.size = _cpu(), 0
                print("ready", flush=True)
        if stream.probe:
            ended = END in text
            self.note(stream, text, now)
        else:
            stream.rest = text[-self.tail :]
            ended = END in stream.rest
        if ended and stream.stage == 1:
            stream.stage = 2
            self.going -= 1
            self.ended_at = now

    def note(self, stream: Stream, text: bytes, now: int) -> None:
        """Note when the messages in `text` arrived, in microseconds after they were sent."""
        cut = text.rfind(b"\n") + 1
        stream.latencies.extend([(now - int(sent)) // 1000 for sent in self.timed.findall(text, 0, cut)])
        stream.rest = text[cut:]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Open the streams, say when they are ready, follow them, and return what was found."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd(spec)
    crowd.follow()
    streams = crowd.streams.values()
    return {
        "endedAt": crowd.ended_at,
        "complete": all(stream.stage == 2 for stream in streams),
        "lost": crowd.lost,
        "bytes": crowd.size,
        "cpu": _cpu() - crowd.cpu,
        "latencies": [stream.latencies for stream in streams if stream.probe],
    }


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.stdin.buffer.readline()))), flush=True)
