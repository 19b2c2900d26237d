"""Durable topics in Restate, live streams in the browser."""
