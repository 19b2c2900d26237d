"""A provider of models on this machine: it streams one answer, in the forms of OpenAI and of Gemini."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TOKENS = ["Hel", "lo", " wor", "ld"]
ANSWER = "".join(TOKENS)


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[str]:
    """Serve it; the block gets its URL."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", _streaming(_completions))
    app.router.add_post("/v1/responses", _streaming(_responses))
    app.router.add_post("/{version}/models/{model}:streamGenerateContent", _streaming(_gemini))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def _streaming(said: Callable[[], Iterator[dict[str, Any]]]) -> Handler:
    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        for event in said():
            name = f"event: {event['type']}\n" if "type" in event else ""
            await answer.write(f"{name}data: {json.dumps(event)}\n\n".encode())
        return answer

    return stream


def _completions() -> Iterator[dict[str, Any]]:
    about: dict[str, Any] = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "fake"}
    for token in TOKENS:
        delta: dict[str, Any] = {"role": "assistant", "content": token}
        yield about | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield about | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def _responses() -> Iterator[dict[str, Any]]:
    part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item: dict[str, Any] = {"type": "message", "id": "m", "role": "assistant", "status": "in_progress", "content": []}
    response: dict[str, Any] = {
        "id": "r",
        "object": "response",
        "created_at": 0,
        "model": "fake",
        "output": [],
        "tools": [],
    }
    response |= {"tool_choice": "auto", "parallel_tool_calls": True, "status": "in_progress"}
    at: dict[str, Any] = {"item_id": "m", "output_index": 0, "content_index": 0}
    whole: dict[str, Any] = item | {"status": "completed", "content": [part | {"text": ANSWER}]}
    said: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "part": part},
        *({"type": "response.output_text.delta", **at, "delta": token, "logprobs": []} for token in TOKENS),
        {"type": "response.output_text.done", **at, "text": ANSWER, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part | {"text": ANSWER}},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
        {"type": "response.completed", "response": response | {"status": "completed", "output": [whole]}},
    ]
    for number, event in enumerate(said):
        yield event | {"sequence_number": number}


def _gemini() -> Iterator[dict[str, Any]]:
    for token in TOKENS:
        yield {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": token}]}}]}
    yield {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"}]}
