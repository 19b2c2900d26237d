"""What replicas say to one another: who waits where, what was written, and the proof of who speaks. Pure.

A replica whose readers wait is the *subscriber* of its pulls. Its name may bring the URL at which other replicas reach
it, and a key: `name url key`. It is one text, so a replica of an older version passes it on as it is.

A connection is one HTTP request. Whoever writes opens it, and both bodies are lines:

    writer                                        reader
    {"from": …, "to": …, "nonce": …}
                                                  {"nonce": …, "proof": …}
    {"proof": …}
                                                  (an empty line: the proof is good)
    topic {news}
    (an empty line, every second)                 (an empty line)

A topic is percent-encoded, so it has no space. News are what an awakeable would be resolved with, which has no line
feed, as messages are compact JSON. A topic without news is a doubt: ask Restate, a write may have happened.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Literal, NamedTuple, TypeVar
from urllib.parse import quote, unquote

import msgspec

from restate_pubsub.errors import InvalidRequest
from restate_pubsub.protocol.calls import decode, decode_notification
from restate_pubsub.protocol.messages import Batch

PATH = "/peers"
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")
"""What a journal lists side by side: whatever else a name has must not look like another one."""


class Subscriber(NamedTuple):
    """A replica as its subscriptions name it; `url` and `key` are empty where nobody may hand it anything."""

    name: str
    url: str = ""
    key: str = ""

    @classmethod
    def read(cls, text: str) -> Subscriber:
        """Read what a subscription says; what is not of this form is a name alone."""
        parts = text.split(" ")
        return cls(*parts) if len(parts) == 3 and all(parts) else cls(text)

    def __str__(self) -> str:
        """Return it as a subscription says it."""
        return f"{self.name} {self.url} {self.key}" if self.url else self.name

    @property
    def mark(self) -> str:
        """What a write's journal calls it: its name, told apart from whoever else gives that name, without the key."""
        if not self.url and _PLAIN.fullmatch(self.name):
            return self.name
        plain = "".join(_PLAIN.findall(self.name))
        return f"{plain}.{hashlib.sha256(str(self).encode()).hexdigest()[:16]}"


class Hello(msgspec.Struct, rename={"sender": "from", "receiver": "to"}):
    """The writer's first line: the names of both replicas, and a text that nobody used before."""

    sender: str
    receiver: str
    nonce: str


class Welcome(msgspec.Struct):
    """The reader's first line."""

    nonce: str
    proof: str


class Proof(msgspec.Struct):
    """The writer's second line."""

    proof: str


T = TypeVar("T", Hello, Welcome, Proof)


def read_greeting(raw: bytes, kind: type[T]) -> T:
    """Read one of the first lines.

    Raises:
        InvalidRequest: it is none.

    """
    return decode(raw, kind, "greeting")


def prove(key: str, side: Literal["reader", "writer"], hello: Hello, nonce: str) -> str:
    """Return what only one who knows the reader's key can say; `nonce` is the reader's."""
    said = f"{side}\n{hello.sender}\n{hello.receiver}\n{hello.nonce}\n{nonce}"
    return hmac.new(key.encode(), said.encode(), "sha256").hexdigest()


def proves(proof: str, key: str, side: Literal["reader", "writer"], hello: Hello, nonce: str) -> bool:
    """Whether a proof is good."""
    return hmac.compare_digest(proof.encode(), prove(key, side, hello, nonce).encode())


def line(topic: str, news: bytes) -> bytes:
    """Write news of one topic, as an awakeable is resolved with them; none at all are a doubt."""
    return b"%b %b\n" % (quote(topic, safe="").encode(), news)


def read_line(raw: bytes) -> tuple[str, Batch | None]:
    """Read a line, without its end: the topic and its news; None is a doubt.

    Raises:
        InvalidRequest: it is no such line.

    """
    topic, space, news = raw.partition(b" ")
    if not space:
        msg = f"not a line of a peer: {raw[:80]!r} has no space"
        raise InvalidRequest(msg)
    return unquote(topic.decode("ascii", "replace")), decode_notification(news, 0) if news else None
