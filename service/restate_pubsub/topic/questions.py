"""The questions of a topic: which are open, and how those ended that somebody may still answer. Pure: no I/O.

All are in one state key, which writes do not read. A question is open until it has an *end*: an answer or a withdrawal,
set there before its event is appended. While the event may be missing, the end keeps what the event says, so that
whoever comes next can finish it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from restate_pubsub.errors import AlreadyAnswered, NoSuchQuestion, TooManyQuestions
from restate_pubsub.protocol.messages import Message
from restate_pubsub.protocol.names import ANSWER_EVENT, QUESTION_EVENT

KEY = "questions"
MAX_OPEN = 100
"""Questions of one topic that may be open."""
KEPT = 256
"""Questions with an end that are remembered, the newest."""


NOTHING = msgspec.Raw(b"null")


class End(msgspec.Struct, omit_defaults=True, frozen=True):
    """How a question ended: the event is at `offset`, or will be if it is not `done`."""

    offset: int
    data: msgspec.Raw = NOTHING
    withdrawn: bool = False
    done: bool = False


class Question(msgspec.Struct, omit_defaults=True, frozen=True):
    """A question: its event is at `offset`."""

    offset: int
    end: End | None = None


class _Stored(msgspec.Struct, omit_defaults=True):
    life: int = 0
    questions: dict[str, Question] = {}


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions of one life of a topic, by id, in the order in which they were asked."""

    life: int
    by_id: Mapping[str, Question]

    @property
    def open(self) -> list[str]:
        """The ids of those without an end."""
        return [question for question, about in self.by_id.items() if about.end is None]

    def asked(self, question: str, offset: int) -> Questions:
        """Take in a question whose event will be at `offset`.

        Raises:
            TooManyQuestions: as many are open as may be.

        """
        if (count := len(self.open)) >= MAX_OPEN:
            raise TooManyQuestions.open_are(count)
        return Questions(self.life, _newest({**self.by_id, question: Question(offset)}))

    def ended(self, question: str, end: End) -> Questions:
        """Give a question its end."""
        about = msgspec.structs.replace(self.by_id[question], end=end)
        return Questions(self.life, {**self.by_id, question: about})

    def to_answer(self, question: str) -> Question:
        """Return the question that somebody wants to answer.

        Raises:
            NoSuchQuestion: it was not asked here, or it ended long ago.

        """
        about = self.by_id.get(question)
        if about is None:
            raise NoSuchQuestion.called(question)
        return about


def late(question: str, end: End) -> AlreadyAnswered:
    """Return the refusal of whoever comes after the end."""
    return AlreadyAnswered.at(question, end.offset, withdrawn=end.withdrawn)


def _newest(by_id: Mapping[str, Question]) -> Mapping[str, Question]:
    over = sum(about.end is not None and about.end.done for about in by_id.values()) - KEPT
    kept = {}
    for question, about in by_id.items():
        if over > 0 and about.end is not None and about.end.done:
            over -= 1
        else:
            kept[question] = about
    return kept


def decode(raw: bytes | None, life: int) -> Questions:
    """Read the state key; what is of another life of the topic is forgotten."""
    stored = msgspec.json.decode(raw, type=_Stored) if raw else _Stored(life)
    return Questions(life, stored.questions if stored.life == life else {})


def encode(questions: Questions) -> bytes:
    """Write the state key."""
    return msgspec.json.encode(_Stored(questions.life, dict(questions.by_id)))


def question_message(question: str, data: bytes) -> Message:
    """Return the event that asks."""
    return Message(b'{"id":%b,"question":%b}' % (msgspec.json.encode(question), data), QUESTION_EVENT)


def end_message(question: str, end: End) -> Message:
    """Return the event that ends a question."""
    said = b'"withdrawn":true' if end.withdrawn else b'"answer":%b' % bytes(end.data)
    return Message(b'{"id":%b,%b}' % (msgspec.json.encode(question), said), ANSWER_EVENT)
