"""Reads whose handler may run in this very process: what it has read is then handed over, and need not be answered."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine

from restate_pubsub.errors import PubsubError
from restate_pubsub.protocol.messages import Batch


class Readings:
    """Those of one process that are under way."""

    def __init__(self) -> None:
        """None has begun."""
        self._waited: dict[str, asyncio.Future[Batch]] = {}
        self._ending: set[asyncio.Task[Batch]] = set()

    async def ask(self, question: Callable[[str], Coroutine[None, None, Batch]]) -> Batch:
        """Return the answer to a question that carries a word; or what is handed over with that word before it comes.

        Raises what the question raises.
        """
        word = secrets.token_hex(8)
        handed: asyncio.Future[Batch] = asyncio.get_running_loop().create_future()
        self._waited[word] = handed
        call = asyncio.create_task(question(word))
        try:
            await asyncio.wait({call, handed}, return_when=asyncio.FIRST_COMPLETED)
            if not handed.done():
                return await call
        except asyncio.CancelledError:
            call.cancel()
            raise
        finally:
            del self._waited[word]
        # To cut the call off would cost its connection. What it answers is of no interest any more.
        self._ending.add(call)
        call.add_done_callback(self._ended)
        return handed.result()

    def take(self, word: str, batch: Batch) -> bool:
        """Take what a question with this word has read; return whether it was still waited for."""
        handed = self._waited.get(word)
        if handed is None:
            return False
        if not handed.done():
            handed.set_result(batch)
        return True

    async def close(self) -> None:
        """Cut off what is still to be answered."""
        for call in self._ending:
            call.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _ended(self, call: asyncio.Task[Batch]) -> None:
        self._ending.discard(call)
        with contextlib.suppress(PubsubError, asyncio.CancelledError):
            call.result()
