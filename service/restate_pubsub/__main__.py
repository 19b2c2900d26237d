"""`python -m restate_pubsub` is the command."""

from restate_pubsub.cli import main

main()
