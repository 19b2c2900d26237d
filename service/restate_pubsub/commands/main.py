"""The entry point of `restate-pubsub`: it needs the library alone, so that it can say which packages are missing."""

from __future__ import annotations

import importlib.metadata
import re
import sys

DISTRIBUTION = "restate-pubsub"


def main() -> None:
    """Run the command that the arguments name."""
    if missing := missing_packages():
        sys.exit(
            f"error: this command needs the service's packages, of which {', '.join(missing)} cannot be found: "
            f"run `pip install '{DISTRIBUTION}[server]'`"
        )
    from restate_pubsub.commands.group import group  # noqa: PLC0415 - it needs what was just looked for

    group()


def missing_packages() -> list[str]:
    """Return the packages of `restate-pubsub[server]` that are not installed."""
    try:
        required = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []  # run from its sources: there is nothing to compare with
    names = [re.match(r"[\w.-]+", line) for line in required if re.search(r"""extra == ["']server["']""", line)]
    return [name[0] for name in names if name and not _installed(name[0])]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
