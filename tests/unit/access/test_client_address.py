"""Who a request counts against."""

from __future__ import annotations

import pytest

from restate_pubsub.access.client_address import client_of


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "expected"),
    [
        ("192.0.2.1", [], 0, "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], 0, "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], 1, "203.0.113.9"),
        ("192.0.2.1", ["1.1.1.1, 203.0.113.9"], 1, "203.0.113.9"),
        ("192.0.2.1", ["1.1.1.1, 203.0.113.9, 198.51.100.1"], 2, "203.0.113.9"),
        ("192.0.2.1", ["1.1.1.1", "203.0.113.9", "198.51.100.1"], 2, "203.0.113.9"),
        ("192.0.2.1", ["203.0.113.9"], 2, "203.0.113.9"),
        ("192.0.2.1", [], 1, "192.0.2.1"),
        ("192.0.2.1", ["unknown"], 1, "192.0.2.1"),
        ("192.0.2.1", [", ,"], 1, "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9:4711"], 1, "203.0.113.9"),
        ("192.0.2.1", ["[2001:db8:1:2:3::4]:4711"], 1, "2001:db8:1:2::/64"),
        ("192.0.2.1", ["2001:db8:1:2:ffff::4"], 1, "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", [], 0, "192.0.2.1"),
        ("2001:db8::1", [], 0, "2001:db8::/64"),
        ("fe80::1%eth0", [], 0, "fe80::/64"),
        (None, [], 0, ""),
        ("socket", [], 0, "socket"),
    ],
)
def test_the_client_is_who_the_outermost_trusted_proxy_saw(
    peer: str | None, forwarded: list[str], trusted: int, expected: str
) -> None:
    """What the client itself wrote into the header counts for nothing; IPv6 counts by /64."""
    scope = {
        "client": None if peer is None else (peer, 1234),
        "headers": [(b"x-forwarded-for", value.encode()) for value in forwarded],
    }
    assert expected == client_of(scope, trusted)
