"""What the object needs of the Restate SDK: more than the client and the publisher do."""

from __future__ import annotations

import importlib.metadata
import re

OLDEST = (1, 3)


def check_sdk(installed: str | None = None) -> None:
    """Check the version of restate-sdk that is installed, or the one given.

    Raises:
        ImportError: it is too old; the text says what to install.

    """
    found = installed or importlib.metadata.version("restate-sdk")
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        msg = (
            f"The pubsub object needs restate-sdk {oldest} or newer, and {found} is installed: "
            f"run `pip install 'restate-sdk>={oldest}'`, or let the service serve the object and use its client here"
        )
        raise ImportError(msg)
