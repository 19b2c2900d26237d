"""On what it was measured: machine and versions."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from benchmarks.processes import NODE
from support.harness import ROOT


def describe() -> dict[str, str]:
    """Return the machine and the versions of all that takes part."""
    locked = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    nginx = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=True).stderr
    nchan = subprocess.run(
        ["dpkg-query", "-W", "-f=${Version}", "libnginx-mod-nchan"], capture_output=True, text=True, check=False
    ).stdout
    node = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    npm = {name: locked[f"node_modules/@restatedev/{name}"]["version"] for name in ("restate-server", "pubsub")}
    ours = ("restate-pubsub", "restate-sdk", "hypercorn", "starlette", "aiohttp")
    return {
        "machine": f"{os.cpu_count()} cores ({cpu[1] if cpu else platform.machine()}), {memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()} with " + ", ".join(f"{name} {version(name)}" for name in ours),
        "Restate": f"restate-server {npm['restate-server']}, one node",
        "reference": f"@restatedev/pubsub {npm['pubsub']}, Node {node.strip()}",
        "nginx": f"{nginx.strip().rpartition('/')[2]} with nchan {nchan or '(unknown)'}, one worker",
    }
