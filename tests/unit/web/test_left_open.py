"""The start's warning says what anybody may do."""

from __future__ import annotations

from restate_pubsub.settings.fields import load
from restate_pubsub.web.middleware.public_port import left_open


def test_whoever_may_write_may_stop_and_answer() -> None:
    """Without a key, the switch for publishing opens both."""
    (readers, _) = left_open(load({"PUBSUB_PUBLISH_ENABLED": "true"}))
    assert readers.startswith("read, write and control (stop agents, answer their questions in) every topic")
    assert left_open(load({}))[0].startswith("read every topic")
