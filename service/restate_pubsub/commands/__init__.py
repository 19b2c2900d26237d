"""The command line, one file a command. It may use everything below it; nothing imports it."""
