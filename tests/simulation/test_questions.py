"""Questions and answers, stopped before each of their commands: one end, and whoever waits is told the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import msgspec
import pytest

from restate_pubsub.topic import questions, state
from restate_pubsub.topic.memory import Call
from restate_pubsub.topic.policy import Policy, Retention
from restate_pubsub.topic.steps import QUIET_CHECKS, IdleCheck
from simulation import guarantee
from simulation.world import FAR, World

Operation = Callable[[World, str], Call]


def asking(handler: str, data: object = None) -> Operation:
    """Return a call for a question."""

    def call(world: World, question: str) -> Call:
        argument = {"id": question} if data is None else {"id": question, "data": data}
        return world.send(handler, msgspec.json.encode(argument))

    return call


ASK, YES, NO, WITHDRAW = asking("ask", "may I?"), asking("answer", "yes"), asking("answer", "no"), asking("withdraw")
OPERATIONS = {"ask": ASK, "yes": YES, "no": NO, "withdraw": WITHDRAW}


class Scene:
    """A topic in which something was asked."""

    def __init__(self, policy: Policy | None = None, *, asked: bool = True) -> None:
        self.world = World()
        self.world.replica(policy)
        self.world.replica(Policy(message_bytes=1_000_000, batch_messages=99))
        guarantee.watch(self.world)
        self.question = self.world.topic.new_awakeable()
        self.world.append("before")
        if asked:
            ASK(self.world, self.question)
        self.world.settle()

    def stopped(self, operation: Operation, command: int) -> Call:
        """Run a call up to before its so many-th command."""
        world = self.world
        call = operation(world, self.question)
        world.stop_at(call, command)
        world.next_exclusive()
        while not call.done and world.step(call, world.replicas[0]):
            pass
        return call

    def events(self, name: str) -> list[bytes]:
        """Return the data of the events of this name."""
        return [message.data for _, message in sorted(self.world.log.items()) if message.event == name]

    @property
    def told(self) -> object:
        """What the one who asks was told."""
        return self.world.topic.awakeables.get(self.question)

    @property
    def stored(self) -> questions.Question | None:
        """What the topic knows of the question."""
        known = self.world.topic.state
        life = state.decode_topic(known.get(state.METADATA_KEY)).life
        return questions.decode(known.get(questions.KEY), life).by_id.get(self.question)

    def holds(self) -> None:
        """One end at most, in the log and to the one who asks, and known as done."""
        guarantee.at_rest(self.world)
        ends, about = self.events("answer"), self.stored
        assert len(ends) <= 1
        assert len(self.events("question")) <= 1
        if not ends:
            assert self.told is None
            assert about is None or about.end is None
            return
        assert about is not None
        assert about.end is not None
        assert about.end.done
        end = msgspec.json.decode(ends[0])
        assert end["id"] == self.question
        if "answer" in end:
            assert self.told == msgspec.json.encode(end["answer"])
        else:
            assert end["withdrawn"] is True
            assert self.told is None


def commands(operation: str, policy: Policy | None = None) -> range:
    """Return the numbers of an operation's commands."""
    scene = Scene(policy, asked=operation != "ask")
    call = scene.stopped(OPERATIONS[operation], FAR)
    return range(len(scene.world.commands[call.id]))


POLICIES = {"everything": Policy(), "two are kept": Policy(retention=Retention(messages=2))}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed(operation: str, policy: str) -> None:
    """An operator kills the call before any command: there is no end, or all of one."""
    for command in commands(operation, POLICIES[policy]):
        scene = Scene(POLICIES[policy], asked=operation != "ask")
        scene.world.kill(scene.stopped(OPERATIONS[operation], command))
        scene.world.settle()
        scene.holds()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("second", OPERATIONS)
@pytest.mark.parametrize("first", OPERATIONS)
def test_killed_with_another_call_behind_it(first: str, second: str, policy: str) -> None:
    """The second call finds whatever the first has left, with a message between them or not."""
    for command in commands(first, POLICIES[policy]):
        for between in (False, True):
            scene = Scene(POLICIES[policy], asked=first != "ask")
            call = scene.stopped(OPERATIONS[first], command)
            if between:
                scene.world.append("between")
            OPERATIONS[second](scene.world, scene.question)
            scene.world.kill(call)
            scene.world.settle()
            scene.holds()
            if second in ("yes", "no") and scene.events("question"):
                assert scene.events("answer")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_run_again(operation: str) -> None:
    """The process dies before any command, and another with other settings ends the call."""
    for command in commands(operation):
        scene = Scene(asked=operation != "ask")
        world = scene.world
        call = scene.stopped(OPERATIONS[operation], command)
        while not call.done and world.step(call, world.replicas[1]):
            pass
        world.settle(world.replicas[1])
        scene.holds()


def test_the_first_answer_wins() -> None:
    """Whoever comes later is told where it is; the same answer again is no mistake."""
    scene = Scene()
    calls = [YES(scene.world, scene.question), NO(scene.world, scene.question), YES(scene.world, scene.question)]
    scene.world.settle()
    scene.holds()
    assert b'{"offset":2}' == calls[0].outcome == calls[2].outcome
    assert "already-answered" == getattr(calls[1].outcome, "code", None)
    assert {"offset": "2", "code": "already-answered"} == getattr(calls[1].outcome, "metadata", None)


def test_only_what_was_asked_here_can_be_answered() -> None:
    """An awakeable of somebody else's is none of this topic's."""
    scene = Scene(asked=False)
    call = YES(scene.world, scene.question)
    scene.world.settle()
    assert "no-such-question" == getattr(call.outcome, "code", None)
    assert scene.told is None


def test_a_deletion_tells_whoever_asks() -> None:
    """Nobody could answer any more."""
    scene = Scene()
    scene.world.send("delete")
    scene.world.settle()
    assert scene.stored is None
    assert isinstance(scene.told, Exception)
    call = YES(scene.world, scene.question)
    scene.world.settle()
    assert "no-such-question" == getattr(call.outcome, "code", None)


def test_a_topic_with_an_open_question_is_not_idle() -> None:
    """It is deleted when it has been quiet for the idle time after the answer."""
    scene = Scene(Policy(retention=Retention(idle=60)), asked=False)
    world = scene.world
    ASK(world, scene.question)
    for _ in range(200):  # checks that find a question open send the next one, for ever
        world.settle(fire=False)
        if world.topic.delayed:
            world.topic.inbox.append(world.topic.delayed.pop(0))
    assert scene.stored is not None
    YES(world, scene.question)
    world.settle()
    assert scene.stored is None
    assert state.decode_topic(world.topic.state[state.METADATA_KEY]).empty


def test_as_many_as_may_be_open() -> None:
    """Beyond, questions are refused; an answer makes room."""
    scene = Scene(asked=False)
    world = scene.world
    ids = [world.topic.new_awakeable() for _ in range(questions.MAX_OPEN + 1)]
    *_, last = [ASK(world, question) for question in ids]
    world.settle()
    assert "too-many-questions" == getattr(last.outcome, "code", None)
    NO(world, ids[0])
    again = ASK(world, ids[-1])
    world.settle()
    assert isinstance(again.outcome, bytes)


def test_old_ends_are_forgotten() -> None:
    """What is remembered is bounded."""
    scene = Scene(asked=False)
    world = scene.world
    for _ in count():
        question = world.topic.new_awakeable()
        ASK(world, question)
        NO(world, question)
        world.settle()
        if len(world.log) > 2 * (questions.KEPT + 5):
            break
    known = questions.decode(world.topic.state[questions.KEY], 0).by_id
    assert questions.KEPT + 1 >= len(known)


def gone(world: World, handler: str) -> Call:
    """Delete the topic, or let the check come that finds it idle."""
    if handler == "delete":
        return world.send("delete")
    topic = state.decode_topic(world.topic.state[state.METADATA_KEY])
    check = IdleCheck(topic.timer, topic.bounds.tail, QUIET_CHECKS - 1)
    return world.send("expire", msgspec.json.encode(check))


@pytest.mark.parametrize("handler", ["delete", "expire"])
@pytest.mark.parametrize("second", ["yes", "withdraw"])
def test_nobody_waits_for_ever_in_a_topic_that_goes(handler: str, second: str) -> None:
    """Its deletion is killed before any command, or is not; then somebody acts on the question, and it is deleted."""
    for command in count():
        scene = Scene(Policy(retention=Retention(idle=60)), asked=False)
        world = scene.world
        ASK(world, scene.question)
        world.settle(fire=False)
        call = gone(world, handler)
        world.stop_at(call, command)
        world.next_exclusive()
        while not call.done and world.step(call, world.replicas[0]):
            pass
        over = call.done
        if not over:
            world.kill(call)
        acts = OPERATIONS[second](world, scene.question)
        world.settle(fire=False)
        if handler == "expire":
            assert isinstance(acts.outcome, bytes), "a topic with an open question is not idle"
            assert len(scene.events("answer")) == 1
        gone(world, "delete")
        world.settle()
        guarantee.at_rest(world)
        assert scene.stored is None
        assert scene.told is not None or second == "withdraw"
        if over:
            return
