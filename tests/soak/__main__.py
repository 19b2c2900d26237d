"""Look for what breaks, for as long as asked: `make soak SECONDS=600 [SEED=7]`.

Random histories run in the simulation, and at the same time random kills and stops of real processes
(`tests/faults/test_soak.py`). What fails is printed with its seed, and shrunk.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from simulation.histories import History, shrink

SAID_EVERY = 10.0


def histories(seed: int, seconds: float) -> bool:
    """Let histories happen until the time is over; return whether all were right."""
    end, said = time.monotonic() + seconds, time.monotonic()
    first = seed
    while time.monotonic() < end:
        try:
            History(seed).run()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            print(f"history {seed}: {error!r}; shrinking …", flush=True)
            print(f"the shortest one like it: {shrink(seed).steps}", flush=True)
            return False
        seed += 1
        if time.monotonic() - said > SAID_EVERY:
            said = time.monotonic()
            print(f"{seed - first} histories, {end - said:.0f} s to go", flush=True)
    print(f"{seed - first} histories from seed {first} on: the guarantee held", flush=True)
    return True


def main() -> int:
    """Run both, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    processes = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-s", "--timeout", str(options.seconds + 300), "test_soak.py"],
        cwd=Path(__file__).parents[1] / "faults",
        env=os.environ | {"SOAK_SECONDS": str(options.seconds), "SOAK_SEED": str(options.seed)},
    )
    right = histories(options.seed, options.seconds)
    return 0 if processes.wait() == 0 and right else 1


if __name__ == "__main__":
    sys.exit(main())
