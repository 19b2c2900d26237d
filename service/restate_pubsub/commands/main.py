"""The entry point of `restate-pubsub`."""

from __future__ import annotations

from restate_pubsub.commands.group import group


def main() -> None:
    """Run the command that the arguments name."""
    group()
