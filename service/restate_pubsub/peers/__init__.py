"""Replicas that hand one another the news of what they have written; `protocol.peers` has what they say.

It knows the readers of this process by what it hands them, and neither Restate nor the web. Nothing rests on it: what
is not handed over comes by a pull.
"""
