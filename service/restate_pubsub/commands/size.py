"""`restate-pubsub size`: how many replicas a load needs, and where Restate becomes the limit."""

from __future__ import annotations

import math

import click

from restate_pubsub.commands.command import Command
from restate_pubsub.commands.sizing import (
    MB,
    MEASURED,
    MEASURED_BY,
    MOST_REPLICAS,
    PARTITIONS,
    Load,
    Plan,
    Room,
    event_bytes,
    plan,
)

POSITIVE = click.FloatRange(min=0, min_open=True)
MEMORY_FACTOR = 1.5
"""What is asked for above what was measured: readers that fall behind, long messages, and what a restart brings."""


@click.command(cls=Command)
@click.option("--streams", type=POSITIVE, required=True, help="Open streams, which is open pages.")
@click.option("--answers-per-minute", type=POSITIVE, required=True, help="Answers that begin in a minute.")
@click.option("--readers", type=click.FloatRange(min=1), default=1.0, show_default=True, help="Streams of each topic.")
@click.option("--answer-tokens", type=POSITIVE, default=500.0, show_default=True, help="Tokens of one answer.")
@click.option("--tokens-per-second", type=POSITIVE, default=30.0, show_default=True, help="The pace of one answer.")
@click.option(
    "--linger", type=click.FloatRange(0, 10), default=0.1, show_default=True, help="The writer's linger, in seconds."
)
@click.option("--message-bytes", type=POSITIVE, default=60.0, show_default=True, help="Bytes of one token's message.")
@click.option(
    "--busy", type=click.FloatRange(0, 1, min_open=True), default=0.6, show_default=True, help="How busy a core may be."
)
@click.option(
    "--streams-per-replica",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="The replicas' PUBSUB_MAX_STREAMS.",
)
@click.option("--spare", type=click.IntRange(min=0), default=1, show_default=True, help="Replicas that may be away.")
@click.option("--node-cores", type=POSITIVE, default=4.0, show_default=True, help="Cores of one Restate node.")
def size(
    *,
    streams: float,
    answers_per_minute: float,
    readers: float,
    answer_tokens: float,
    tokens_per_second: float,
    linger: float,
    message_bytes: float,
    busy: float,
    streams_per_replica: int,
    spare: int,
    node_cores: float,
) -> None:
    """Say how many replicas a load needs, what to request for each, and where Restate becomes the limit.

    It counts with what was measured on one machine; docs/scaling.md says by how much that was wrong elsewhere. It asks
    nothing of a service or of Restate.
    """
    if readers > streams:
        msg = "--readers: a topic cannot have more streams than there are (--streams)"
        raise click.UsageError(msg)
    load = Load(streams, readers, answers_per_minute / 60, answer_tokens, tokens_per_second, linger)
    room = Room(busy, streams_per_replica, node_cores)
    found = plan(load, MEASURED, room)
    if found is None:
        msg = f"even {MOST_REPLICAS:,} replicas do not carry this load: give --readers, --linger or --busy more"
        raise click.UsageError(msg)
    for title, lines in (
        ("load", _load(load, message_bytes)),
        ("service", _service(found, spare)),
        ("Restate", _restate(found, room)),
    ):
        click.echo(title)
        for name, value in lines:
            click.echo(f"  {name:<26}{value}")
    click.echo(f"costs as `{MEASURED_BY}` measured them; the plan's error is in docs/scaling.md")


def _load(load: Load, message_bytes: float) -> list[tuple[str, str]]:
    out = load.events * event_bytes(message_bytes)
    return [
        ("open streams", f"{load.streams:,.0f}"),
        ("topics read", f"{load.topics:,.0f}"),
        ("answers at one time", f"{load.talking:,.0f}"),
        ("tokens/s written", f"{load.tokens:,.0f}, {load.tokens * message_bytes / MB:.2f} MB/s"),
        ("calls/s that write", f"{load.writes:,.0f}"),
        ("messages/s to readers", f"{load.events:,.0f}, {out / MB:.2f} MB/s"),
    ]


def _service(found: Plan, spare: int) -> list[tuple[str, str]]:
    memory = math.ceil(MEMORY_FACTOR * found.memory / 2**20 / 64) * 64
    return [
        ("replicas", f"{found.replicas + spare}, of which {spare} may be away"),
        ("CPU request of each", f"{math.ceil(found.cpu * 20) * 50}m"),
        ("memory request of each", f"{memory}Mi, limit {2 * memory}Mi"),
        ("busy, all together", f"{found.use.service:.2f} cores"),
    ]


def _restate(found: Plan, room: Room) -> list[tuple[str, str]]:
    most = PARTITIONS * room.share
    enough = found.partitions <= PARTITIONS
    return [
        ("busy", f"{found.use.restate:.2f} cores"),
        ("cores to have", f"{found.restate_cores:.1f}"),
        ("nodes", f"{found.nodes}, of {room.node_cores:g} cores; three or more to survive one"),
        (
            "partitions",
            f"{found.partitions} at least{'' if enough else f': more than the {PARTITIONS} it starts with'}",
        ),
        ("the limit", f"{PARTITIONS} partitions: {1000 * most / MEASURED.restate_write:,.0f} calls/s that write"),
    ]
