"""Several topics on one stream: `GET {path}?topic=a&topic=b…`.

What the request says, the reader of all topics together, and its bytes. It is a stream like any other for everybody
who writes streams.
"""
