"""What crosses a wire: messages, calls, names, limits, SSE bytes, JSON as text. Pure: no I/O, nothing of Restate."""
