"""What is published: JSON of a given size that says when it was sent, and of which kind it is."""

from __future__ import annotations

import time
from typing import Literal

Kind = Literal["w", "m", "e"]
"""The first message (readers are there when they have it), a measured one, and the last one."""
SIZE = 200


def message(kind: Kind = "m", size: int = SIZE) -> bytes:
    """Return a message sent now; the marks come last, where readers look for them."""
    marks = b'"t":%d,"k":"%b"}' % (time.monotonic_ns(), kind.encode())
    return b'{"text":"%b",%b' % (b"x" * max(size - len(marks) - 11, 0), marks)
