"""What a topic stores: its state keys, and their JSON.

`messagesMetadata` and `m_<offset>` are the reference's, so that a topic it wrote is read and continued here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from restate_pubsub.protocol.calls import Subscription, decode, decode_messages
from restate_pubsub.protocol.json_text import mask_surrogates
from restate_pubsub.protocol.messages import Message, event_names, join, named
from restate_pubsub.topic.log import Bounds, LoosePage

METADATA_KEY = "messagesMetadata"
SUBSCRIPTION_KEY = "subscription"
STREAMS_KEY = "streams"


class KnownStream(msgspec.Struct, omit_defaults=True, rename="camel"):
    """One entry of the `streams` state key."""

    offset: int
    next_offset: int
    count: int
    attempt: str | None = None


class Metadata(msgspec.Struct, omit_defaults=True, rename="camel"):
    """The `messagesMetadata` state key. The reference writes `head` and `tail` alone."""

    head: int
    tail: int
    closed: bool = False
    open_bytes: int = 0
    open_events: dict[str, str] = {}
    open_data: dict[str, msgspec.Raw] = {}
    swept: int | None = None
    size: int = 0
    sized_from: int = 0
    timer: int = 0


class Page(msgspec.Struct, omit_defaults=True):
    """A sealed page: the messages from `offset` on."""

    offset: int
    messages: list[msgspec.Raw]
    events: dict[str, str] = {}


class Loose(msgspec.Struct):
    """A full page that stays in `m_` keys: its size, and the names of its events."""

    size: int = 0
    events: dict[str, str] = {}


def message_key(offset: int) -> str:
    """Return the state key of one message."""
    return f"m_{offset}"


def page_key(page: int) -> str:
    """Return the state key of a sealed page."""
    return f"p_{page}"


def loose_key(page: int) -> str:
    """Return the state key for what is known of a full page that is not sealed."""
    return f"e_{page}"


def decode_bounds(raw: bytes | None) -> Bounds:
    """Read the metadata; without any, the topic is new."""
    if not raw:
        return Bounds()
    masked, restore = mask_surrogates(raw)
    meta = decode(masked, Metadata, METADATA_KEY)
    ours = meta.swept is not None  # the reference writes head and tail alone, and clears at once
    return Bounds(
        head=meta.head,
        tail=meta.tail,
        closed=meta.closed,
        open_bytes=meta.open_bytes,
        open_events={int(at): name for at, name in meta.open_events.items()},
        open_data={int(at): restore(bytes(text)) for at, text in meta.open_data.items()},
        swept=meta.head if meta.swept is None else meta.swept,
        size=meta.size,
        sized_from=meta.sized_from if ours else meta.tail,
        timer=meta.timer,
    )


def encode_bounds(bounds: Bounds) -> bytes:
    """Write the metadata: the reference's two fields first, then ours."""
    return msgspec.json.encode(
        Metadata(
            head=bounds.head,
            tail=bounds.tail,
            closed=bounds.closed,
            open_bytes=bounds.open_bytes,
            open_events={str(at): name for at, name in bounds.open_events.items()},
            open_data={str(at): msgspec.Raw(text) for at, text in bounds.open_data.items()},
            swept=bounds.swept,
            size=bounds.size,
            sized_from=bounds.sized_from,
            timer=bounds.timer,
        )
    )


def decode_subscriptions(raw: bytes | None) -> list[Subscription]:
    """Read who waits."""
    return msgspec.json.decode(raw, type=list[Subscription]) if raw else []


def encode_subscriptions(waiting: Sequence[Subscription]) -> bytes:
    """Write who waits."""
    return msgspec.json.encode(waiting)


def encode_page(offset: int, messages: Sequence[Message]) -> bytes:
    """Write a sealed page that starts at `offset`."""
    return b'{"offset":%d,"messages":[%b]%b}' % (offset, join(messages), event_names(offset, messages))


def decode_page(raw: bytes) -> tuple[int, list[Message]]:
    """Read a sealed page: its first offset and its messages."""
    page, texts = decode_messages(raw, Page, "page", "messages")
    return page.offset, named(page.offset, texts, page.events)


def encode_loose(loose: LoosePage) -> bytes:
    """Write what is known of a full page that is not sealed."""
    return msgspec.json.encode({"size": loose.size, "events": {str(at): name for at, name in loose.events.items()}})


def decode_loose(raw: bytes | None) -> LoosePage:
    """Read what is known of a full page that is not sealed; the reference's pages have no such key."""
    if not raw:
        return LoosePage(0, {})
    stored = decode(raw, Loose, "page events")
    return LoosePage(stored.size, {int(at): name for at, name in stored.events.items()})


def decode_streams(raw: bytes | None) -> dict[str, KnownStream]:
    """Read which streams the topic remembers, oldest first."""
    return msgspec.json.decode(raw, type=dict[str, KnownStream]) if raw else {}


def encode_streams(streams: Mapping[str, KnownStream]) -> bytes:
    """Write which streams the topic remembers."""
    return msgspec.json.encode(streams)
