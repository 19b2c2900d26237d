"""Which addresses may be called, whatever a subscription says."""

from __future__ import annotations

import pytest

from restate_pubsub.peers.allowed import AllowedPeers


@pytest.mark.parametrize(
    ("entries", "url", "allowed"),
    [
        ([], "http://127.0.0.1:9080", False),
        (["127.0.0.1"], "http://127.0.0.1:9080", True),
        (["127.0.0.1"], "https://127.0.0.1:9080", True),
        (["127.0.0.1"], "http://127.0.0.2:9080", False),
        (["10.0.0.0/8"], "http://10.1.2.3:1", True),
        (["10.0.0.0/8"], "http://11.1.2.3:1", False),
        (["fd00::/8"], "http://[fd00::5]:9080", True),
        (["fd00::/8"], "http://[fe80::5]:9080", False),
        (["10.0.0.0/8"], "http://[::ffff:10.0.0.1]:9080", False),
        (["localhost"], "http://127.0.0.1:9080", True),
        (["localhost"], "http://localhost:9080", True),
        (["LocalHost"], "http://localhost:9080", True),
        (["localhost"], "http://127.0.0.2:9080", False),
        (["no-such-name.invalid"], "http://127.0.0.1:9080", False),
        (["127.0.0.1"], "http://localhost:9080", False),
        (["10.0.0.0/8"], "http://evil.example:9080", False),
        (["127.0.0.1"], "http://127.0.0.1:9080/admin", False),
        (["127.0.0.1"], "http://127.0.0.1:9080?x=", False),
        (["127.0.0.1"], "http://127.0.0.1:9080#", False),
        (["127.0.0.1"], "http://127.0.0.1:9080/", False),
        (["127.0.0.1"], "http://u:p@127.0.0.1:9080", False),
        (["127.0.0.1"], "http://127.0.0.1", False),
        (["127.0.0.1"], "http://127.0.0.1:0x50", False),
        (["127.0.0.1"], "http://127.0.0.1:99999", False),
        (["127.0.0.1"], "ftp://127.0.0.1:21", False),
        (["127.0.0.1"], "http://127.1:9080", False),
        (["127.0.0.1"], "http://2130706433:9080", False),
        (["127.0.0.1"], "http://127.0.0.1\t:9080", False),
        (["127.0.0.1"], "http://[127.0.0.1:9080", False),
        (["127.0.0.1"], "", False),
    ],
)
async def test_only_allowed_addresses_are_called(entries: list[str], url: str, allowed: bool) -> None:  # noqa: FBT001
    """By name, address or network; a name that was not allowed is not looked up."""
    assert allowed is await AllowedPeers(entries).allows(url)
