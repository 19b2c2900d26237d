"""Agent frameworks that write into a topic: a file for each, over one shared core.

`ext.pydantic_ai` needs pydantic-ai, and so on; none needs another, and nothing else of this library needs them. What
an agent says becomes `events`; an encoder (`plain`, `ai_sdk`, `ag_ui`) makes them the messages of a topic; `run` knows
which of them belong to a durable step, and which are published once whatever a replay does.
"""
