"""Metrics and logs. It watches; nothing decides by it."""
