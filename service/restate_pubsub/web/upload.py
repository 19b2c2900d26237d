"""One body that publishes: how long it may go on, how much it may bring, and how fast."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from restate_pubsub.errors import Draining, PubsubError, RequestTooLong, Unauthorized
from restate_pubsub.settings.units import format_duration, format_size
from restate_pubsub.web.ending import Ending

if TYPE_CHECKING:
    from restate_pubsub.access.admission import Meter


class Upload:
    """The bounds of one request's body."""

    def __init__(self, meter: Meter, *, max_bytes: int, max_age: float, expires: float | None, ending: Ending) -> None:
        """`expires` is when the token ends, in seconds since the epoch; None for never. `ending` is the process's."""
        self._ending = ending
        self.meter = meter
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._expires = expires

    @contextlib.asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Let the block run until the token or the process ends, or the request has gone on for as long as one may.

        Raises:
            Unauthorized, RequestTooLong, Draining: it did not come to its end before.

        """
        left = self._max_age if self._expires is None else min(self._max_age, self._expires - time.time())
        try:
            async with asyncio.timeout(left) as limit:
                with self._ending.ends(limit):
                    yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise (Draining() if self._ending.over else self._late(left)) from None

    def _late(self, left: float) -> PubsubError:
        if left < self._max_age:
            return Unauthorized("The token has expired while the request was under way", invalid=True)
        return RequestTooLong.after(f"has gone on for {format_duration(self._max_age)}")

    async def chunks(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the body as it comes, no faster than its client may send.

        Raises:
            RequestTooLong: there is more of it than one request may bring.

        """
        left = self._max_bytes
        async for chunk in body:
            fits = chunk[:left]
            left -= len(fits)
            self.meter.take(size=len(fits))
            await self.meter.pay()
            yield fits  # whole lines in it are published, wherever the network cut the body
            if len(fits) < len(chunk):
                what = f"has more than {format_size(self._max_bytes)}"
                raise RequestTooLong.after(what)
