"""The description of the routes: valid, and neither more nor less than what is served."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from restate_pubsub import errors
from restate_pubsub.access import admission
from restate_pubsub.server.app import create_service
from restate_pubsub.settings.fields import load
from restate_pubsub.web.described.asyncapi import asyncapi
from restate_pubsub.web.described.openapi import openapi
from restate_pubsub.web.middleware.cors import METHODS
from restate_pubsub.web.middleware.public_port import PublicPort

GUARDED = {"PUBSUB_JWT_KEY": "k" * 40, "PUBSUB_JWT_QUERY": "true"}
ALL = {"PUBSUB_CONSOLE": "true", "PUBSUB_SSE_PATH": "/my/topics"}


def codes(document: dict[str, Any]) -> set[tuple[int, str]]:
    """Return all statuses and codes that are described."""
    found = set()
    for path in document["paths"].values():
        for method in path.keys() - {"parameters"}:
            for answer in path[method]["responses"].values():
                for content in answer.get("content", {}).values():
                    if "allOf" in content.get("schema", {}):
                        shape = content["schema"]["allOf"][1]["properties"]
                        found |= {(shape["status"]["const"], code) for code in shape["code"]["enum"]}
    return found


@pytest.mark.parametrize("env", [{}, GUARDED, ALL])
@pytest.mark.parametrize("public", [False, True])
def test_it_is_openapi(env: dict[str, str], *, public: bool) -> None:
    """By the official schema, whatever is switched on."""
    OpenAPIV31SpecValidator(openapi(load(env), public=public)).validate()


@pytest.mark.parametrize("env", [{}, ALL])
async def test_every_route_and_method_is_described_and_nothing_else(env: dict[str, str]) -> None:
    """Restate's own endpoint aside, which is the only one that is mounted."""
    service = create_service(load(env))
    routes = cast("Starlette", service.app._app._app).routes  # type: ignore[attr-defined]
    served: dict[str, set[str]] = {}
    for route in routes:
        if isinstance(route, Mount):
            assert route.path == "/restate"
            continue
        assert isinstance(route, Route)
        served.setdefault(route.path.replace(":any", ""), set()).update(route.methods or ())
    described = {
        path: {method.upper() for method in operations.keys() - {"parameters", "options"}}
        for path, operations in openapi(load(env), public=False)["paths"].items()
    }
    await service.hub.close()
    assert described == served


@pytest.mark.parametrize("env", [{}, ALL])
async def test_the_public_address_describes_what_it_serves(env: dict[str, str]) -> None:
    """Each path of the whole description is in the public one if a request for it passes, and only then."""
    settings = load(env)
    passed: set[str] = set()

    async def inner(scope: Any, _receive: Any, _send: Any) -> None:
        passed.add(scope["path"])

    port = PublicPort(inner, public_ports={9080}, sse_path=settings.sse_path)
    for path in openapi(settings, public=False)["paths"]:
        try:
            await port({"type": "http", "path": path, "server": ("", 9080)}, cast("Any", None), cast("Any", None))
        except errors.PubsubError as refused:
            assert refused.status == 404  # noqa: PT017
    assert passed == set(openapi(settings, public=True)["paths"])


def test_every_limit_of_the_service_is_described() -> None:
    """Their codes are where they are raised, and nowhere else."""
    known = codes(openapi(load({}), public=False))
    raised = dict(_limits())
    assert raised
    for code, status in raised.items():
        assert {(status, one) for one in _spelled(code)} <= known


def _limits() -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(inspect.getsource(admission))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("TooMany", "Busy"):
            code = next(word.value for word in node.keywords if word.arg == "code")
            yield ast.unparse(code), getattr(errors, node.func.id).status


def _spelled(code: str) -> list[str]:
    return [eval(code, {"what": what}) for what in ("message", "byte")]  # noqa: S307 - a text of this project's


NOT_HERE = {
    errors.PullTimeout,  # of the handler `pull`
    errors.TooManyQuestions,  # of the handler `ask`
    errors.CallFailed,  # has the status of what it passes on: the introduction says so
    errors.StreamFailed,  # has the status of what it is about
    errors.ConfigError,  # ends the process
    errors.OverLimit,
    errors.TooMany,
    errors.Busy,  # each has a code of its own
}


def test_every_error_is_described() -> None:
    """All that a request may meet, with the status that strangers are told."""
    known = codes(openapi(load({}), public=False))
    told = {"restate-refused": 502, "wrong-address": 502}
    for kind in _all(errors.PubsubError):
        if kind not in NOT_HERE and kind.__module__ == errors.__name__:
            assert (told.get(kind.code, kind.status), kind.code) in known, kind


def _all(kind: type[errors.PubsubError]) -> Iterator[type[errors.PubsubError]]:
    for one in kind.__subclasses__():
        yield one
        yield from _all(one)


def test_pages_of_other_origins_may_use_what_is_described() -> None:
    """Preflights name the same methods."""
    topic = openapi(load({}), public=True)["paths"]["/pubsub/{topic}"]
    assert {method.upper() for method in topic.keys() - {"parameters", "options"}} == set(METHODS.split(", "))


def test_a_token_is_asked_for_where_one_is_needed() -> None:
    """In all the ways in which it may come; nothing else asks for one, and without a key nothing does."""
    document = openapi(load(GUARDED), public=False)
    ways: list[dict[str, list[str]]] = [{"bearer": []}, {"cookie": []}, {"query": []}]
    for path, operations in document["paths"].items():
        for method in operations.keys() - {"parameters"}:
            needed = path.startswith("/pubsub") and method != "options"
            assert (ways if needed else None) == operations[method].get("security"), (path, method)
    assert "security" not in json.dumps(openapi(load({}), public=False))


def test_limits_are_those_of_the_settings() -> None:
    """A topic may be as long as it may be here."""
    env = {"PUBSUB_TOPIC_MAX_BYTES": "99", "PUBSUB_MESSAGE_MAX_BYTES": "12345"}
    topic = openapi(load(env), public=True)["paths"]["/pubsub/{topic}"]
    assert topic["parameters"][0]["schema"]["maxLength"] == 99
    assert "12345 bytes" in json.dumps(topic["post"])
    assert "99 bytes" in json.dumps(asyncapi(load(env)))
