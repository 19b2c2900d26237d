"""A description and what is answered, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator


def resolved(document: Mapping[str, Any], part: Any) -> Any:
    """Return a part of the document with what it refers to in its place."""
    if isinstance(part, dict):
        if "$ref" in part:
            target: Any = document
            for name in part["$ref"].removeprefix("#/").split("/"):
                target = target[name]
            return resolved(document, target)
        return {name: resolved(document, value) for name, value in part.items()}
    if isinstance(part, list):
        return [resolved(document, one) for one in part]
    return part


def check(
    document: Mapping[str, Any], method: str, path: str, answer: tuple[int, Mapping[str, str], bytes]
) -> Mapping[str, Any]:
    """Fail unless the answer of `method` at the described `path` is as described; return what it is described as."""
    status, headers, body = answer
    responses = document["paths"][path][method.lower()]["responses"]
    assert str(status) in responses, (method, path, status, body)
    found: Mapping[str, Any] = resolved(document, responses[str(status)])
    for name, header in found.get("headers", {}).items():
        given = headers.get(name.lower())
        assert given is not None or not header.get("required"), (status, name, headers)
        if given is not None:
            value = int(given) if header["schema"].get("type") == "integer" else given
            Draft202012Validator(header["schema"]).validate(value)
    if "content" not in found:
        assert not body, (status, body)
        return found
    media_type = headers["content-type"].partition(";")[0]
    assert media_type in found["content"], (status, media_type)
    if media_type.endswith("json"):
        Draft202012Validator(found["content"][media_type]["schema"]).validate(json.loads(body))
    return found
