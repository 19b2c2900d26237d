"""Which handler a read asks: `history` where most of a small topic is wanted, `pull` everywhere else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from restate_pubsub.errors import OffsetGone, PubsubError, PullTimeout, Unavailable
from restate_pubsub.fanout.restate_source import WHOLE_FROM, WHOLE_SHARE, RestateSource
from restate_pubsub.protocol.messages import Batch


class Log:
    """Stands for the ingress: notes what is asked."""

    def __init__(self, *, whole: bool | None, tail: int = WHOLE_FROM, refused: PubsubError | None = None) -> None:
        self.asked: list[str] = []
        self._info = {"head": 0, "tail": tail, "closed": False} | ({} if whole is None else {"whole": whole})
        self._refused = refused

    async def call(self, _topic: str, handler: str, **_: Any) -> bytes:
        self.asked.append(handler)
        return msgspec.json.encode(self._info)

    async def pull(self, _topic: str, offset: int, *, whole: bool = False, **_: Any) -> Batch:
        self.asked.append("history" if whole else "pull")
        if whole and self._refused is not None:
            raise self._refused
        return Batch(offset, (), offset)


async def asked(log: Log, limit: int | None = WHOLE_FROM, wait: float = 0.0, *, join: bool = True) -> list[str]:
    await RestateSource(log, "replica").pull("topic", 0, limit=limit, wait=wait, join=join)  # type: ignore[arg-type]
    return log.asked


async def test_most_of_a_small_topic_is_read_at_once() -> None:
    assert ["info", "history"] == await asked(Log(whole=True))
    assert ["info", "history"] == await asked(Log(whole=True, tail=WHOLE_FROM * WHOLE_SHARE))


async def test_a_small_part_of_a_topic_is_pulled() -> None:
    assert ["pull"] == await asked(Log(whole=True), WHOLE_FROM - 1)
    assert ["info", "pull"] == await asked(Log(whole=True, tail=WHOLE_FROM * WHOLE_SHARE + 1))


@pytest.mark.parametrize("whole", [False, None])
async def test_a_large_topic_is_pulled_and_one_of_an_object_that_does_not_say(whole: bool | None) -> None:  # noqa: FBT001
    """The version before has no `history`, and says nothing."""
    assert ["info", "pull"] == await asked(Log(whole=whole))


async def test_token_by_token_it_is_pulled() -> None:
    """An answer has too small a part of a long topic, and the question before each would be paid for nothing."""
    assert ["pull"] == await asked(Log(whole=True), join=False)


async def test_who_waits_pulls() -> None:
    assert ["pull"] == await asked(Log(whole=True), wait=1.0)
    assert ["pull"] == await asked(Log(whole=True), None)


@pytest.mark.parametrize("refused", [PullTimeout(), Unavailable("The object has no handler 'history'")], ids=repr)
async def test_where_history_gives_nothing_it_is_pulled(refused: PubsubError) -> None:
    """It finds no sealed page, or the object was updated and is not registered anew yet."""
    assert ["info", "history", "pull"] == await asked(Log(whole=True, refused=refused))


async def test_what_is_gone_is_said_at_once() -> None:
    with pytest.raises(OffsetGone):
        await asked(Log(whole=True, refused=OffsetGone(0, 5)))
