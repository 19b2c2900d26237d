"""How often Python looks for garbage that refers to itself.

Its cyclic collector walks what is alive, and 10,000 open streams hold much alive: with Python's own thresholds
(700, 10, 10), more than half of the CPU of connecting went there.
"""

from __future__ import annotations

import gc

THRESHOLDS = (10_000, 10, 10)
"""New objects until the young are looked at, and how often that is done until the older ones are."""


def tune_collector() -> None:
    """Look less often, and never again at what is there before the first request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
