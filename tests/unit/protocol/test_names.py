"""Names that cross the wire."""

from __future__ import annotations

import pytest

from restate_pubsub.protocol.names import invocation_of

LARGEST = "inv_1lYGhA16ahyf7N42dgm5tFLK9N8MT7fHC7"


@pytest.mark.parametrize("invocation", ["inv_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hbz", f"inv_1{0:033d}", LARGEST])
def test_a_stream_is_named_after_its_invocation(invocation: str) -> None:
    """By its id, or by the id and the number of a step."""
    assert invocation == invocation_of(invocation) == invocation_of(f"{invocation}/12")


@pytest.mark.parametrize(
    "stream",
    [
        "step", "", f"{LARGEST}x", LARGEST[:-1], f"x{LARGEST}", LARGEST.replace("inv", "prom"), "inv_1" + "-" * 33,
        "inv_1lYGhA16ahyg" + "0" * 22, "inv_1" + "0" * 11 + "7N42dgm5tFLK9N8MT7fHC8", "inv_1" + "Z" * 33,
    ],
)  # fmt: skip
def test_what_restate_could_not_read_is_no_invocation(stream: str) -> None:
    """The numbers have 8 and 16 bytes; one more than the largest fails the call that cancels it, for ever."""
    assert invocation_of(stream) is None
