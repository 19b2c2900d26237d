"""What the hub tells whoever watches it; the one that ignores it all is the default."""

from __future__ import annotations

from typing import Literal, Protocol

By = Literal["local", "peer", "pull"]
"""How messages came: from a write in this process, from a peer that ran the write, or by a pull."""


class Observer(Protocol):
    """Counts for metrics. Calls come from the event loop and must be quick."""

    def stream_opened(self) -> None:
        """One more reader."""

    def stream_closed(self) -> None:
        """One reader less."""

    def topic_opened(self) -> None:
        """One more feed."""

    def topic_closed(self) -> None:
        """One feed less."""

    def delivered(self, messages: int, size: int, lag: float | None) -> None:
        """Messages were written to one reader, `lag` seconds after the last of them came.

        None: they were here before the reader, or were read again.
        """

    def arrived(self, messages: int, *, by: By) -> None:
        """Messages came to a feed."""

    def pulled(self, outcome: str) -> None:
        """A pull was answered, or failed: `messages`, `timeout`, `gone`, `unavailable` or `error`."""

    def caught_up(self, messages: int) -> None:
        """Messages were read again for readers behind the ring."""

    def was_reset(self) -> None:
        """What a reader was to get next was gone."""

    def delivery_uncertain(self) -> None:
        """A write may not have been delivered here: the feed asks the log."""

    def ring_bytes(self, change: int) -> None:
        """What is kept of messages, the catch-up pages included, grew or shrank."""


class NullObserver:
    """An observer that does not look."""

    def stream_opened(self) -> None:
        """Ignore it."""

    stream_closed = topic_opened = topic_closed = was_reset = delivery_uncertain = stream_opened

    def delivered(self, messages: int, size: int, lag: float | None) -> None:
        """Ignore it."""

    def arrived(self, messages: int, *, by: By) -> None:
        """Ignore it."""

    def pulled(self, outcome: str) -> None:
        """Ignore it."""

    def caught_up(self, messages: int) -> None:
        """Ignore it."""

    ring_bytes = caught_up
