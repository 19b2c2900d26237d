"""A topic in the dialect of a client that front ends use: `?view=ai-sdk`, `?view=ag-ui`.

A view is a place to begin and an encoder: it takes a reader's steps and makes the bytes that the client understands. It
must never know Restate, nor what a message means beyond its `type`. The rules are in docs/views.md.
"""
