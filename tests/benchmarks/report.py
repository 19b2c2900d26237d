"""The results for people: tables, the targets, the page and its plots."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks import chat, joining
from benchmarks.plots import lines
from benchmarks.shocks import MISSED, SLOW_RATE, SLOW_READERS
from benchmarks.stats import Results, Series
from benchmarks.tokens import HOLDS_MS, LINGER


class Section(NamedTuple):
    """How a measure is presented; `axis` and `plots` (metric, label) where it is a curve."""

    title: str
    text: str
    axis: str = ""
    plots: Sequence[tuple[str, str]] = ()


LATE = (("p50", "p50, ms"), ("p99", "p99, ms"))
ABOVE = (
    "Restate's share is above what it used just before: it is never quite at rest, so a negative figure says that the "
    "cost is less than that moves by itself."
)
SECTIONS = {
    "ack": Section(
        "Publish: the acknowledgement",
        "One call at a time over Restate's ingress to a topic without readers, the contenders taking turns call by "
        "call. The floor is an exclusive handler that does nothing, served like the service.",
    ),
    "latency-readers": Section(
        "From publish to reader, by the number of readers",
        "20 messages of 200 bytes a second into one topic. The time runs from before the publisher's call until a "
        "reader's socket has the message; 50 of the readers are timed, in a process of their own. *Other replica*: "
        "the readers are on a process where no write runs, and which no peer can reach, so everything comes through "
        "Restate. *Two replicas*: a load balancer gives Restate's requests to two processes in turn, each has half of "
        "the readers, and they hand one another what they write. *In granian*: the same application in an ASGI server "
        "whose HTTP is in Rust, with threads of its own. The floor has no readers: a call of a handler that does "
        "nothing, at the same rate. nchan stores nothing durably.",
        "readers",
        LATE,
    ),
    "latency-rate": Section(
        "From publish to reader, by the rate of messages",
        "As above with one reader. Publishers do not wait for one another: the rate is what is asked for. A machine "
        "with more to do answers sooner, as it rests less between two calls: compare at one rate.",
        "messages/s",
        LATE,
    ),
    "read": Section(
        "Reading a long topic",
        "All messages of 200 bytes over one new stream, from connecting to the last byte. The reference is asked for "
        "2,000 only: at 10,000 its process ended before the read did. Cold: nobody has read the topic in this process; "
        "warm: the same again at once.",
    ),
    "chat": Section(
        "A chat that is opened again",
        "Of each answer a prompt, 500 tokens, and its end, over one new stream: "
        "written with `join` and read joined, and the same content written without and read as it was written. State "
        "is what Restate keeps of the topic. At the end 200 readers open the chat within a second, as after a restart. "
        "The reference has a short chat only: it takes messages one by one, and its process ends before it has read a "
        "long one. What it costs each of the 200 to come to a stream at all, the short chat shows.",
        "answers",
    ),
    "fan-out": Section(
        "Fan-out to 500 readers",
        "Messages of 200 bytes, from the first publish until the last reader has the last one. For the service this "
        "includes writing them durably, in batches or with 16 writers one by one; nchan has no batches and stores "
        "nothing. So one by one, Restate's pace is the limit here; what a delivery costs is in the second column. The "
        "bare broadcast is asyncio transports alone. The readers are one process that only reads: where it is busy at "
        "nearly 100 %, it is the limit. The reference has 50 readers.",
    ),
    "storm": Section(
        "Everybody comes back at once",
        f"Readers that connect at the same moment, each of whom has missed {MISSED} messages of 200 bytes; from the "
        "start of their process until the last of them has everything.",
    ),
    "slow-reader": Section(
        "Readers that take nothing",
        f"{SLOW_READERS} of them beside 50 that read, while {SLOW_RATE} messages of 64 KiB a second come: what they "
        "cost the others, and the memory by which the processes grow.",
    ),
    "kill": Section(
        "What a kill costs",
        "Messages that were acknowledged one by one; then every process of the contender, with Restate or Redis, is "
        "killed (-9) and started again, and a new reader asks for everything.",
    ),
    "idle": Section(
        "Open streams in which nothing happens",
        "Streams of one topic in one process; memory is what the process grew by, CPU includes the heartbeats. "
        + ABOVE,
    ),
    "idle-topics": Section(
        "Topics that are read and not written",
        "One reader on each topic: what it costs to open them, and what they cost then. " + ABOVE,
    ),
    "batch": Section(
        "One call for 1,000 messages", "1,000 messages of 200 bytes in one `append`, beside one `publish`."
    ),
    "throughput": Section(
        "Messages into one topic",
        "For a while, nobody reading: one writer that waits for each answer, 16 of them, batches one after the "
        "other, and the client's token stream as fast as it takes tokens.",
    ),
    "tokens": Section(
        "Token streams",
        "Each stream writes 50 tokens a second into a topic of its own, which has one reader; the time runs from "
        "when the token was due. The service's client gathers while a call is in flight, and between two where they "
        "are slow; the reference publishes "
        "token by token, as its client does, and so do the others. With a linger, a stream's calls are at least so "
        "far apart.",
        "streams",
        (("p50", "p50, ms"), ("p95", "p95, ms")),
    ),
    "joining": Section(
        "Token streams with join",
        "As above, the writers with `join` and without it in turns. The tokens differ in their text alone, so those "
        "that gather during a call can be sent as one message, and the CPU is of all that the streams did, by token.",
        "streams",
    ),
    "profile": Section(
        "Where the service's CPU goes",
        "Samples of its stacks, by the innermost library at work, while 100 messages/s go to one reader and while "
        "20 messages/s go to 500. What hypercorn and the libraries under it take is the most that another ASGI server "
        "could save; the tables above have one.",
    ),
}


INTRODUCTION = (
    "Every figure and plot here was written by `make bench` (mode `quick`: `make bench-quick`), in one run on one "
    "machine, all contenders on the "
    "same Restate and taking turns. A cell is the median of the repetitions, in parentheses the least and the "
    "most. What counts are the ratios within the run; the figures move with the machine."
)


def number(value: float) -> str:
    """Write a figure with three significant digits, at most one of them a fraction beyond 10."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cell(series: Series | None) -> str:
    if series is None:
        return "-"
    if len(series.values) == 1:
        return number(series.median)
    return f"{number(series.median)} ({number(min(series.values))} to {number(max(series.values))})"


def _rows(results: Results, measure: str) -> list[list[str]]:
    series = results.of(measure)
    metrics = {one.metric: one.unit for one in series}
    curve = any(one.at for one in series)
    axis = SECTIONS[measure].axis
    rows = [[*([axis] if curve else []), "", *(f"{name}, {unit}" for name, unit in metrics.items())]]
    places = dict.fromkeys((one.at, one.contender) for one in series)
    order = list(dict.fromkeys(at for at, _ in places))
    names = sorted(dict.fromkeys(name for _, name in places), key=_rank)
    for at in order:
        for name in names:
            if (at, name) in places:
                cells = [
                    _cell(next((s for s in series if (s.at, s.contender, s.metric) == (at, name, metric)), None))
                    for metric in metrics
                ]
                rows.append([*([at] if curve else []), name, *cells])
    return rows


def _rank(name: str) -> tuple[int, str]:
    """Sort the service first, peers next, floors last."""
    peers = ("restate-pubsub", "reference", "nginx", "Starlette", "Centrifugo", "Mercure")
    for place, start in enumerate(peers):
        if name.startswith(start):
            return place, name
    return 9, name


def table(results: Results, measure: str) -> str:
    """Return a measure as a Markdown table, aligned for a terminal too."""
    rows = _rows(results, measure)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    out = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    out.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([*out, *(f"\n{_wrapped(note)}" for note in results.notes.get(measure, []))])


def _wrapped(text: str) -> str:
    """Break prose into lines as every page of this project has them."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


@dataclass(frozen=True, slots=True)
class Target:
    """Something to reach: what was found, and whether it is enough."""

    what: str
    found: str
    met: bool


OURS, PUBLISHED, EAGER = "restate-pubsub", "reference", "reference, pullInterval 0"
FLOOR = "floor: handler that does nothing"


class Targets:
    """The targets for which a run has figures; a quick run does not reach the load of some."""

    def __init__(self, results: Results, *, full: bool) -> None:
        """Look at them all."""
        self._full = full
        self.found: list[Target] = []
        self._results = results
        self._reading()
        self._latency()
        self._writing()
        self._tokens()
        self._joined()

    def _at_most(self, what: str, value: float | None, limit: float, unit: str) -> None:
        if value is not None:
            self.found.append(Target(what, f"{number(value)} {unit}", value <= limit))

    def _at_least(self, what: str, value: float | None, limit: float, unit: str) -> None:
        if value is not None:
            self.found.append(Target(what, f"{number(value)} {unit}", value >= limit))

    def _latency(self) -> None:
        get = self._results.get
        for readers in ("1", "50"):
            past = get("latency-readers", OURS, "p50 after the ack", readers)
            self._at_most(f"20 messages/s, {readers} readers: p50 within 15 ms of the acknowledgement", past, 15, "ms")
        for measure, at, what in (
            ("latency-readers", "1", "20"),
            *(("latency-rate", rate, rate) for rate in ("5", "50", "100")),
        ):
            floor, late = get(measure, FLOOR, "ack p50", at), get(measure, OURS, "p50", at)
            if floor is not None and late is not None:
                text = f"{what} messages/s, 1 reader: p50 within the floor's acknowledgement + 3 ms"
                self._at_most(text, late - floor, 3, "ms more")
        if late is not None:
            worse = _worse(self._results)
            self.found.append(Target("Later than the reference at no point of any curve", worse or "none", not worse))

    def _reading(self) -> None:
        get = self._results.get
        if self._full:
            self._at_most(
                "Cold read of 10,000 messages under 400 ms", get("read", f"{OURS}, 10,000 messages", "cold"), 400, "ms"
            )
        for one in self._results.of("idle"):
            if self._full and one.contender.startswith(OURS) and one.unit == "KB":
                self._at_most("Idle streams under 60 KB each", one.median, 60, "KB")
        ours = get("fan-out", f"{OURS}, batches of 100", "deliveries/s")
        nchan = get("fan-out", "nginx + nchan, one by one", "deliveries/s")
        if ours is not None and nchan is not None:
            self._at_least(
                "Fan-out to 500 readers, in batches, at least nchan's, which has none", ours / nchan, 1, "times"
            )

    def _writing(self) -> None:
        get = self._results.get
        calls = get("batch", OURS, "append / publish")
        self._at_most("Appending 1,000 messages in under 3 single publishes", calls, 3, "publishes")
        stream, single = get("throughput", OURS, "client.stream"), get("throughput", EAGER, "one writer")
        if stream is not None and single is not None:
            times = stream / single
            self._at_least("Tokens into one topic: 20 times the reference's messages/s", times, 20, "times")

    def _tokens(self) -> None:
        found = self._results.of("tokens")
        p50 = self._results.get("tokens", OURS, "p50", "20")
        self._at_most("20 streams of 50 tokens/s: p50 under 150 ms", p50, 150, "ms")
        linger = f"{OURS}, linger {LINGER:g} s"
        cpu = [self._results.get("tokens", linger, f"CPU, {part}", "20") for part in ("service", "Restate")]
        if None not in cpu:
            used = sum(share or 0.0 for share in cpu)
            self._at_most("20 streams of 50 tokens/s with a linger: 80 % of a core in all", used, 80, "%")
        p95 = self._results.get("tokens", OURS, "p95", "100")
        self._at_most("100 streams of 50 tokens/s: p95 under 300 ms", p95, 300, "ms")
        curve = [one for one in found if (one.contender, one.metric) == (OURS, "p95")]
        held = [one.x for one in curve if one.x is not None and one.median < HOLDS_MS]
        if curve and self._full:
            most = max(held, default=0.0)
            self._at_least("30 streams of 50 tokens/s with p95 under 250 ms", most, 30, "streams")

    def _joined(self) -> None:
        """What joined messages are for."""
        long = max(self._results.of("chat"), key=lambda one: int(one.at), default=None)
        if long is not None:
            self._chat(long.at)
        for one in self._results.of("joining"):
            if (one.contender, one.metric) == (joining.WITH, "p50"):
                self._joining(one.at)

    def _chat(self, answers: str) -> None:
        def found(metric: str, name: str = chat.JOINED) -> float | None:
            return self._results.get("chat", name, metric, answers)

        what = f"A chat of {answers} answers, opened again:"
        if self._full:
            self._at_most(f"{what} at most 400 events", found("sent"), 400, "events")
            self._at_most(f"{what} cold within 40 ms", found("cold"), 40, "ms")
            self._at_most(f"{what} warm within 10 ms", found("warm"), 10, "ms")
            self._at_most(f"{what} 200 within a second, all served within 3 s", found(chat.HERD_LAST), 3000, "ms")
        for text, metric, parts in (
            ("bytes", "received", 8),
            ("state", "state", 4),
            ("CPU of the service, cold", "cold: CPU, service", 15),
            ("CPU of the service, each of 200", chat.HERD_CPU, 15),
        ):
            joined, plain = found(metric), found(metric, chat.PLAIN)
            if joined is not None and plain is not None:
                part = f"{what} at most 1/{parts} as it was written, {text}"
                self._at_most(part, plain and joined / plain, 1 / parts, "times")

    def _joining(self, streams: str) -> None:
        def ratio(*metrics: str) -> float:
            sums = [
                sum(self._results.get("joining", name, metric, streams) or 0.0 for metric in metrics)
                for name in (joining.WITH, joining.WITHOUT)
            ]
            return sums[0] / sums[1]

        what = f"{streams} {'stream' if streams == '1' else 'streams'} of 50 tokens/s with join, against without:"
        cpu = ratio("CPU a token, service", "CPU a token, Restate")
        self._at_most(f"{what} CPU at most what it was, and 5 % for what it varies by", cpu, 1.05, "times")
        if streams == "50":
            self._at_most(f"{what} p95 lower", ratio("p95"), 1, "times")


def _worse(results: Results) -> str:
    """Name the points at which the service is later than the reference."""
    found = []
    for measure in ("latency-readers", "latency-rate"):
        for one in results.of(measure):
            if one.contender != OURS or one.metric not in ("p50", "p99"):
                continue
            for name in (PUBLISHED, EAGER):
                other = results.get(measure, name, one.metric, one.at)
                if other is not None and one.median > other:
                    found.append(f"{one.metric} at {one.at} {SECTIONS[measure].axis} ({name})")
    return "; ".join(found)


def reached(results: Results, about: Mapping[str, str]) -> list[str]:
    """Return a row for each target that the run has figures for."""
    found = Targets(results, full=about.get("mode") == "full").found
    return [f"| {target.what} | {target.found} | {'✓' if target.met else '✗'} |" for target in found]


def page(results: Results, about: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the page and its plots by file name."""
    plots: dict[str, str] = {}
    out = [
        "# Benchmarks",
        "",
        _wrapped(INTRODUCTION),
        "",
        *(f"- {name}: {value}" for name, value in about.items()),
        "",
    ]
    if found := reached(results, about):
        out += ["## What is to be reached", "", "| | found | |", "|---|---|---|", *found, ""]
    for note in results.notes.get("peers", []):
        out += ["## How the others are set up", "", _wrapped(note), ""]
    for measure, section in SECTIONS.items():
        if not results.of(measure):
            continue
        out += [f"## {section.title}", "", _wrapped(section.text), ""]
        for metric, label in section.plots:
            file = f"{measure}-{metric}.svg"
            plots[file] = _plot(results, measure, metric, label)
            out += [f"![{section.title}: {label}](benchmarks/{file})", ""]
        out += [table(results, measure), ""]
    return "\n".join(out), plots


def _plot(results: Results, measure: str, metric: str, label: str) -> str:
    section = SECTIONS[measure]
    by_name: dict[str, list[tuple[float, float, float, float]]] = {}
    for one in results.of(measure):
        if one.metric == metric and one.x is not None:
            by_name.setdefault(one.contender, []).append((one.x, one.median, min(one.values), max(one.values)))
    series = {name: sorted(by_name[name]) for name in sorted(by_name, key=_rank)}
    return lines(f"{section.title}: {metric}", section.axis, label, series)
