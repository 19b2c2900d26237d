"""`python -m restate_pubsub` is the command."""

from restate_pubsub.commands.main import main

main()
