"""What a stream of several topics says, as bytes. Pure.

An `id` is the place in all topics, in the URL's order. A message's data says which topic it is of.
"""

from __future__ import annotations

from collections.abc import Sequence

from restate_pubsub.fanout.steps import Chunk, End, Reset
from restate_pubsub.protocol.names import RESTART_EVENT
from restate_pubsub.protocol.sse import Block, blocks_of

_RESTART = RESTART_EVENT.encode()


def id_of(places: Sequence[bytes]) -> bytes:
    """Return the line that says where the stream is. A place that is not known yet is empty."""
    return b"id: %b\n" % b".".join(places)


def frames_of(step: Chunk | Reset | End, topic: bytes, places: list[bytes], index: int) -> bytes:
    """Encode a step in the topic at `index`, whose name is `topic` as JSON; its place goes on with each frame."""
    before = b"id: " + b"".join(place + b"." for place in places[:index])
    after = b"".join(b"." + place for place in places[index + 1 :]) + b"\n"
    match step:
        case Chunk():
            blocks = list(blocks_of(step.data))
            if blocks:
                places[index] = blocks[-1].place
            return b"".join([before + block.place + after + _message(block, topic) for block in blocks])
        case Reset(requested, head, tail):
            places[index] = b"%d" % head
            said = b'event: reset\ndata: {"topic":%b,"requested":%d,"head":%d,"tail":%d}\n\n'
            return before + places[index] + after + said % (topic, requested, head, tail)
        case End(next_offset):
            places[index] = b"%d" % next_offset
            said = b'event: end\ndata: {"topic":%b,"nextOffset":%d}\n\n'
            return before + places[index] + after + said % (topic, next_offset)


def _message(block: Block, topic: bytes) -> bytes:
    if block.event == _RESTART:  # its data is an object of ours, never an empty one
        return b'event: restart\ndata: {"topic":%b,%b\n\n' % (topic, block.data[1:])
    # The last of those that are joined in it: whatever a restart drops begins after it or not.
    offset = int(block.place) - 1
    if block.event:
        return b'data: {"topic":%b,"offset":%d,"event":"%b","data":%b}\n\n' % (topic, offset, block.event, block.data)
    return b'data: {"topic":%b,"offset":%d,"data":%b}\n\n' % (topic, offset, block.data)
