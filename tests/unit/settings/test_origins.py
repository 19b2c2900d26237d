"""Origins, exact and as patterns."""

from __future__ import annotations

import pytest

from restate_pubsub.settings.origins import Origins, check_origins


@pytest.mark.parametrize(
    ("listed", "origin", "allowed", "named"),
    [
        ("https://app.example.org", "https://app.example.org", True, True),
        ("https://APP.example.org:443", "https://app.example.org", True, True),
        ("http://app.example.org:80", "http://app.example.org", True, True),
        ("https://app.example.org", "http://app.example.org", False, False),
        ("https://app.example.org", "https://app.example.org:8443", False, False),
        ("https://app.example.org", "https://app.example.org.evil.example", False, False),
        ("https://*.example.org", "https://a.example.org", True, False),
        ("https://*.example.org", "https://a.b.example.org", True, False),
        ("https://*.example.org", "https://example.org", False, False),
        ("https://*.example.org", "https://.example.org", False, False),
        ("https://*.example.org", "https://evilexample.org", False, False),
        ("https://*.example.org", "https://evil.example/.example.org", False, False),
        ("https://*.example.org", "https://evil.example#.example.org", False, False),
        ("https://*.example.org", "https://evil.example:1.example.org", False, False),
        ("https://*.example.org", "https://aXexample.org", False, False),
        ("https://*.example.org", "https://a.exampleXorg", False, False),
        ("https://*.example.org", "https://a.example.org\n", False, False),
        ("http://localhost:*", "http://localhost:5173", True, False),
        ("http://localhost:*", "http://localhost", True, False),
        ("http://localhost:*", "http://localhost:evil", False, False),
        ("http://[::1]:3000", "http://[::1]:3000", True, True),
        ("capacitor://localhost", "capacitor://localhost", True, True),
        ("Capacitor://localhost", "capacitor://localhost", True, True),
        ("capacitor://localhost", "capacitor://localhost.evil", False, False),
        ("capacitor://localhost", "https://localhost", False, False),
        ("ionic://localhost", "ionic://localhost", True, True),
        ("tauri://localhost", "tauri://localhost", True, True),
        ("app://obsidian.md", "app://obsidian.md", True, True),
        (
            "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
            "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
            True,
            True,
        ),
        ("chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb", "chrome-extension://evil", False, False),
        ("safari-web-extension://E4D6-01AF", "safari-web-extension://E4D6-01AF", True, True),
        ("moz-extension://*", "moz-extension://2d1cb43b-9d3f-4b4f-8bd4-9b1d4c3e1b2a", True, False),
        ("moz-extension://*", "moz-extension://", False, False),
        ("moz-extension://*", "moz-extension://a/b", False, False),
        ("moz-extension://*", "https://evil.example", False, False),
        ("*", "https://anything.example", True, False),
        ("*", "null", True, False),
        ("https://app.example.org", "null", False, False),
        ("https://app.example.org", "", False, False),
    ],
)
def test_an_origin_is_listed_or_fits_a_pattern(listed: str, origin: str, *, allowed: bool, named: bool) -> None:
    """A star stands for whole labels, or for a port."""
    check_origins([listed])
    origins = Origins([listed])
    assert (allowed, named) == (origins.allow(origin), origins.names(origin))


@pytest.mark.parametrize(
    "text",
    [
        "app.example.org",
        "https://app.example.org/",
        "https://*",
        "https://a.*.org",
        "https://u:p@a.org",
        "ftp://a",
        "file://",
        "file://localhost",
        "wss://a.example",
        "data://a",
        "capacitor://",
        "capacitor://localhost/",
        "capacitor://*.localhost",
        "capacitor:localhost",
        "1a://b",
        "null",
        "**",
        "",
    ],
)
def test_what_can_never_be_an_origin_is_refused(text: str) -> None:
    """With what is allowed instead."""
    with pytest.raises(ValueError, match="is not an origin"):
        check_origins([text])
