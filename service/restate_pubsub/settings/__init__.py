"""Every setting once: its type, default, range and help. It knows the environment and nothing that uses it."""
