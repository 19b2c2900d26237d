"""Where a topic's last answer is, chunk by chunk."""

from __future__ import annotations

import pytest

from restate_pubsub.protocol.answers import NO_ANSWER, Answer
from restate_pubsub.protocol.messages import Message, restart_message

START, DELTA, FINISH = Message(b'{"type":"start"}'), Message(b'{"type":"text-delta"}'), Message(b'{"type":"finish"}')
STOP, NAMED, PLAIN = Message(b"{}", "stop"), Message(b'{"type":"finish"}', "tool"), Message(b'"x"')
INSIDE = Message(b'{"type":"data","data":{"type":"finish"}}')


@pytest.mark.parametrize(
    ("messages", "answer"),
    [
        ([PLAIN, DELTA, FINISH], NO_ANSWER),
        ([PLAIN, START], Answer(1, 0, 1)),
        ([START, DELTA, PLAIN, NAMED, INSIDE], Answer(0, 0, 3)),
        ([START, FINISH, PLAIN, DELTA], Answer(0, 2, 2)),
        ([START, FINISH, START, DELTA], Answer(2, 0, 2)),
        ([START, DELTA, STOP], Answer(0, 3, 3)),
        ([START, FINISH, restart_message("s", 1, 1), DELTA], Answer(0, 0, 4)),
        ([START, FINISH, restart_message("s", 2, 1)], Answer(0, 2, 2)),
        ([Message(b'{"type":"RUN_STARTED"}'), Message(b'{"type":"RUN_ERROR"}')], Answer(0, 2, 2)),
        ([Message(b'{"type":["start"]}'), Message(b'{"a":{"type":"start"}}')], NO_ANSWER),
    ],
)
def test_the_last_answer(messages: list[Message], answer: Answer) -> None:
    """However the messages are cut into writes."""
    assert answer == NO_ANSWER.after(0, messages)
    step = NO_ANSWER
    for at, message in enumerate(messages):
        step = step.after(at, [message])
    assert answer == step
