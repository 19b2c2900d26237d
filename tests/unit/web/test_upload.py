"""The bounds of one body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from restate_pubsub.errors import Draining, RequestTooLong
from restate_pubsub.web.ending import Ending
from restate_pubsub.web.upload import Upload


class Taken:
    """A meter that only notes how many bytes were taken."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, *, size: int) -> None:
        self.size += size

    async def pay(self) -> None:
        return


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("chunks", [(b"0123456789",), (b"01234", b"56789"), (b"0123456", b"789"), (b"01", b"23456789")])
async def test_what_fits_is_taken_however_the_network_cut_it(chunks: tuple[bytes, ...]) -> None:
    """Whole lines before the limit stand, also where they came in one piece with what is past it."""
    meter = Taken()
    upload = Upload(meter, max_bytes=7, max_age=1, expires=None, ending=Ending())  # type: ignore[arg-type]
    came = b""
    with pytest.raises(RequestTooLong, match="has more than 7B"):
        async for chunk in upload.chunks(body(*chunks)):
            came += chunk
    assert came == b"0123456"
    assert meter.size == 7


async def test_a_body_of_the_greatest_size_is_taken() -> None:
    """The limit itself is allowed."""
    upload = Upload(Taken(), max_bytes=4, max_age=1, expires=None, ending=Ending())  # type: ignore[arg-type]
    assert [chunk async for chunk in upload.chunks(body(b"01", b"23", b""))] == [b"01", b"23", b""]


@pytest.mark.parametrize("begun", [True, False])
async def test_a_process_that_stops_ends_what_is_under_way(*, begun: bool) -> None:
    """And what begins after that."""
    ending = Ending()
    if not begun:
        ending.after(0.05)
    upload = Upload(Taken(), max_bytes=4, max_age=60, expires=None, ending=ending)  # type: ignore[arg-type]
    with pytest.raises(Draining):
        async with asyncio.timeout(5), upload.in_time():
            if begun:
                ending.after(0.05)
            await asyncio.Event().wait()
