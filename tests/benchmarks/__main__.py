"""`python -m benchmarks`: run the measures, print tables, write `docs/benchmarks.md` with its plots and figures."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.chat import chats
from benchmarks.fan_out import fan_out
from benchmarks.field import Field
from benchmarks.idle import idle, idle_topics
from benchmarks.joining import joining
from benchmarks.latency import latency_by_rate, latency_by_readers
from benchmarks.machine import describe
from benchmarks.plan import FULL, QUICK, Measure, Plan
from benchmarks.profile import profile
from benchmarks.reading import read
from benchmarks.report import page, reached, table
from benchmarks.shocks import kill, slow_reader, storm
from benchmarks.stats import Results
from benchmarks.tokens import tokens
from benchmarks.writing import acknowledgement, batch, throughput
from restate_pubsub.server.serving import raise_file_limit
from support.harness import ROOT, restate_server

MEASURES: dict[str, Measure] = {
    "ack": acknowledgement,
    "latency-readers": latency_by_readers,
    "latency-rate": latency_by_rate,
    "read": read,
    "chat": chats,
    "fan-out": fan_out,
    "idle": idle,
    "idle-topics": idle_topics,
    "batch": batch,
    "throughput": throughput,
    "tokens": tokens,
    "joining": joining,
    "storm": storm,
    "slow-reader": slow_reader,
    "profile": profile,
    "kill": kill,
}
MEASURE_SECONDS = 1800.0
"""A measure that takes longer is broken, and the run ends."""


async def run(plan: Plan, names: list[str], save: Callable[[Results], None]) -> Results:
    """Run the measures on one Restate, every repetition of one before the next one's; `save` what there is after each.

    One that fails says so under its table, and the others go on.
    """
    results = Results()
    with tempfile.TemporaryDirectory(prefix="pubsub-bench-", ignore_cleanup_errors=True) as folder:
        server = restate_server(Path(folder), RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE="1GB")
        async with Field(server) as field:
            results.note("peers", field.peers_settings())
            for name in names:
                began = time.monotonic()
                try:
                    for repetition in range(plan.repetitions):
                        async with asyncio.timeout(MEASURE_SECONDS):
                            await MEASURES[name](field, plan, results, repetition)
                except Exception as error:  # noqa: BLE001 - what was measured before is worth keeping
                    results.failed = True
                    results.note(name, f"The measure broke off: {error!r}.")
                save(results)
                print(f"\n{name} ({time.monotonic() - began:.0f} s)\n{table(results, name)}", flush=True)
    return results


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes instead of 20; less to rely on")
    parser.add_argument("--only", choices=MEASURES, action="append", help="only this measure (may be repeated)")
    parser.add_argument("--repetitions", type=int, help="how often each contender takes its turn")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks", help="folder of the page")
    options = parser.parse_args()
    raise_file_limit()
    plan = QUICK if options.quick else FULL
    plan = replace(plan, repetitions=options.repetitions or plan.repetitions)
    began = time.monotonic()
    about = describe() | {"mode": "quick" if options.quick else "full", "repetitions": str(plan.repetitions)}
    out: Path = options.out
    (out / "benchmarks").mkdir(parents=True, exist_ok=True)

    def save(results: Results) -> None:
        about["took"] = f"{(time.monotonic() - began) / 60:.0f} min"
        found = {"about": about, "results": results.plain(), "notes": results.notes}
        (out / "benchmarks" / "results.json").write_text(json.dumps(found, indent=1) + "\n")
        text, plots = page(results, about)
        (out / "benchmarks.md").write_text(text)
        for name, svg in plots.items():
            (out / "benchmarks" / name).write_text(svg)

    results = asyncio.run(run(plan, options.only or list(MEASURES), save))
    print("", *reached(results, about), sep="\n")
    print(f"\nwritten: {out / 'benchmarks.md'} ({about['took']})")
    sys.exit(results.failed)


if __name__ == "__main__":
    main()
