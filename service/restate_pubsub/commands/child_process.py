"""Children that end with this process, however it ends: also by `kill -9`, and before any handler is in place."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def ends_with_us() -> Callable[[], None] | None:
    """Return a `preexec_fn`: the kernel sends the child SIGTERM when the thread that starts it has ended.

    To be called, and the child to be started, in the main thread. None where the kernel cannot do that (it is not
    Linux): there a child is ended by who started it, which a `kill -9` prevents.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # found here: between fork and exec as little as possible may run
    parent = os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it ended before it was tied
            os._exit(1)

    return tie
