"""What replicas say to one another."""

from __future__ import annotations

import pytest

from restate_pubsub.errors import InvalidRequest
from restate_pubsub.protocol.calls import encode_notification
from restate_pubsub.protocol.messages import Batch, Message
from restate_pubsub.protocol.peers import Hello, Subscriber, line, prove, proves, read_line

HELLO = Hello("a", "b", "1")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("host-0123", Subscriber("host-0123")),
        ("host-0123 http://10.0.0.5:9080 key", Subscriber("host-0123", "http://10.0.0.5:9080", "key")),
        ("a b", Subscriber("a b")),
        ("a  c", Subscriber("a  c")),
        ("a b c d", Subscriber("a b c d")),
        ("", Subscriber("")),
    ],
)
def test_a_subscription_names_a_replica(text: str, read: Subscriber) -> None:
    """What has no address, or is of another version, is a name alone; it is said again as it was."""
    assert Subscriber.read(text) == read
    assert str(read) == text


@pytest.mark.parametrize("topic", ["t", "a b", "a\nb", "ü/☃.%41", "😀", "%", '"'])
@pytest.mark.parametrize("text", [b'{"a":"b c"}', b'"\\ud83d"', b'"\xe2\x80\xa8"', b'"\\n"', b"1e400"])
def test_news_are_a_line(topic: str, text: bytes) -> None:
    """Whatever a topic is called, and whatever a message is."""
    news = Batch(7, (Message(text), Message(b"2", "named")), 9, head=3, trace="00-1-2-01")
    said = line(topic, encode_notification(news))
    assert said.count(b"\n") == 1
    assert read_line(said.removesuffix(b"\n")) == (topic, Batch(7, list(news.messages), 9, head=3, trace="00-1-2-01"))


def test_a_mark_tells_replicas_apart_and_no_key() -> None:
    """Whoever gives another's name is somebody else; without an address the name is all there is."""
    peer = Subscriber("a", "http://10.0.0.1:1", "secret")
    others = {peer._replace(url="http://10.0.0.2:1").mark, peer._replace(key="other").mark, Subscriber("a").mark}
    assert len(others) == 3
    assert peer.mark not in others
    assert Subscriber("a").mark == "a"
    assert "secret" not in peer.mark
    assert not set(", ") & set(peer.mark)


@pytest.mark.parametrize("name", ["a,b", "a b", "a\nb", ",", "", "é"])
@pytest.mark.parametrize("url", ["", "http://10.0.0.1:1"])
def test_no_name_makes_a_mark_that_is_several(name: str, url: str) -> None:
    """Marks are listed side by side, and a bare name may be somebody else's."""
    mark = Subscriber(name, url, "key" if url else "").mark
    assert not set(", \n") & set(mark)
    assert mark not in {"a", "b", "ab", ""}


def test_a_doubt_is_a_topic_without_news() -> None:
    """It asks whoever reads the topic to look."""
    assert read_line(line("a b", b"")[:-1]) == ("a b", None)


@pytest.mark.parametrize("raw", [b"", b"topic", b"topic {", b"topic []", b"topic {}", b"\xff {}"])
def test_what_is_no_line_is_refused(raw: bytes) -> None:
    """It comes from something else than a peer."""
    with pytest.raises(InvalidRequest):
        read_line(raw)


def test_a_proof_is_good_for_one_connection() -> None:
    """Of that side, those two replicas, and both their texts."""
    proof = prove("key", "writer", HELLO, "2")
    assert proves(proof, "key", "writer", HELLO, "2")
    for other in [Hello("c", "b", "1"), Hello("a", "c", "1"), Hello("a", "b", "3")]:
        assert not proves(proof, "key", "writer", other, "2")
    assert not proves(proof, "key", "reader", HELLO, "2")
    assert not proves(proof, "other", "writer", HELLO, "2")
    assert not proves(proof, "key", "writer", HELLO, "3")
    assert not proves("ü", "key", "writer", HELLO, "2")
