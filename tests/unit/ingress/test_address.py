"""The ingress's URL: what is refused before anything is sent, and what is shown."""

from __future__ import annotations

import pytest

from restate_pubsub import create_pubsub_client
from restate_pubsub.errors import WrongAddress
from restate_pubsub.ingress import address


@pytest.mark.parametrize(
    ("url", "way_out"),
    [
        ("localhost:8080", "http://localhost:8080"),
        ("restate", "http://restate"),
        ("", "http://localhost:8080"),
        ("ftp://restate", "http://localhost:8080"),
        ("http://", "http://localhost:8080"),
        ("http://restate:port", "http://localhost:8080"),
        ("http://[::1", "http://localhost:8080"),
        ("http://restate:8080/?a=1", "leave it out"),
        ("http://restate:8080/#a", "leave it out"),
    ],
)
def test_what_is_no_url_of_an_ingress_is_refused_when_the_client_is_made(url: str, way_out: str) -> None:
    """With the way out; not after a minute of trying."""
    with pytest.raises(WrongAddress) as caught:
        create_pubsub_client(url)
    assert way_out in caught.value.message
    assert caught.value.final


def test_a_password_is_used_and_not_shown() -> None:
    """Error texts and logs carry the second form."""
    assert address.checked("https://me:secret@restate/path/") == (
        "https://me:secret@restate/path",
        "https://…@restate/path",
    )
    with pytest.raises(WrongAddress) as caught:
        address.checked("https://me:secret@restate", has_token=True)
    assert "secret" not in caught.value.message
