"""One process: the composition root, hypercorn and our fixes of it, signals and drain.

It builds all parts and is imported by commands alone.
"""
