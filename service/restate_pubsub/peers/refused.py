"""Why a connection between replicas is refused, by either side."""

from __future__ import annotations

from typing import Literal

Reason = Literal["address", "name", "proof"]
"""The address is not allowed; it is another replica than the one sought; the proof is not good."""


class Refused(Exception):
    """A replica is not who it was thought to be, or may not be called."""

    def __init__(self, *, reason: Reason) -> None:
        """Say why."""
        super().__init__(reason)
        self.reason: Reason = reason
