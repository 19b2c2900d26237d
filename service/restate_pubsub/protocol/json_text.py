"""JSON as text: check it, take its white space away, write it. Nothing here knows what a message is for."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from typing import Any, NoReturn

import msgspec

from restate_pubsub.errors import InvalidMessage, TooLarge

MAX_DEPTH = 128
"""How deep a message may nest: readers' parsers recurse, and the shallowest limit met is about a thousand."""


def _reject(text: str) -> NoReturn:
    msg = f"{text} is not JSON"
    raise ValueError(msg)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        msg = f"the number {text[:40]} is out of range"
        raise ValueError(msg)
    return number


def dump(value: Any) -> bytes:
    """Encode `value` as compact JSON.

    Raises:
        InvalidMessage: it has no JSON form; the text says which part, and what would have.

    """
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_not_json)
        _check_keys(value)
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: only an escape can carry it
        return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_not_json).encode()
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"The message cannot be written as JSON: {error}"
        raise InvalidMessage(msg) from None


def _check_keys(value: Any) -> None:
    """Refuse objects whose keys are not text: `json.dumps` makes names of 1 and True, and so two of one name."""
    left: list[Any] = [value] if isinstance(value, _PARTS) else []
    while left:
        part = left.pop()
        if isinstance(part, dict):
            for key in part:
                if not isinstance(key, str):
                    msg = (
                        f"the key {key!r} is of type {type(key).__name__}, and the keys of a JSON object are text: use "
                        "str(key), or of a model model_dump(mode='json')"
                    )
                    raise TypeError(msg)
        inner = part.values() if isinstance(part, dict) else part
        left.extend([one for one in inner if isinstance(one, _PARTS)])


_PARTS = (dict, list, tuple)


def _not_json(value: Any) -> NoReturn:
    kind = type(value).__name__
    if hasattr(value, "model_dump"):
        msg = f"{kind} is a model, not JSON: pass its model_dump(mode='json')"
    elif dataclasses.is_dataclass(value):
        msg = f"{kind} is a dataclass, not JSON: pass dataclasses.asdict(…), or for a model of pydantic model_dump()"
    elif isinstance(value, (bytes, bytearray, memoryview)):
        msg = f"{kind} is not JSON: decode it to text"
    else:
        msg = f"{kind} is not JSON: pass text, numbers, True, False, None, lists and dicts (of a model, model_dump())"
    raise TypeError(msg)


def load(raw: bytes) -> Any:
    """Decode JSON text strictly (no NaN, no Infinity). Raises ValueError or RecursionError."""
    return json.loads(raw.decode(), parse_constant=_reject, parse_float=_finite)


def read(raw: bytes) -> Any:
    """Decode a message that is in a log: a number that Python cannot hold is as near as it can, as in a browser."""
    try:
        return json.loads(raw)
    except ValueError:  # an integer of thousands of digits
        return json.loads(raw, parse_int=float)


_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""A string, or one that is never closed, up to the end: so every byte is looked at once, whatever a client sends."""
_BRACKET = re.compile(rb"[\[\]{}]")


def check_depth(raw: bytes) -> None:
    """Check how deep a message nests, in linear time and without recursion.

    Raises:
        InvalidMessage: nested deeper than `MAX_DEPTH`.

    """
    # More opening brackets than the limit are needed to break it, so most messages end here.
    if len(raw) <= MAX_DEPTH or raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _BRACKET.finditer(_STRING.sub(b"", raw)):
        depth += 1 if match.group() in b"[{" else -1
        if depth > MAX_DEPTH:
            msg = f"The message nests {depth} levels deep or more; at most {MAX_DEPTH} are allowed"
            raise InvalidMessage(msg)


def check_size(raw: bytes, max_bytes: int) -> None:
    """Check the size of one message.

    Raises:
        TooLarge: over `max_bytes`.

    """
    if len(raw) > max_bytes:
        msg = f"The message has {len(raw)} bytes; at most {max_bytes} are allowed"
        raise TooLarge(msg)


def minified(raw: bytes) -> bytes | None:
    """Take the white space between tokens away, of any JSON text at once; None if it is not quite JSON."""
    try:
        raw.decode()
        return msgspec.json.format(raw, indent=-1)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None


def compact(raw: bytes, max_bytes: int | None = None) -> bytes:
    """Check one message and take the white space between its tokens away.

    Raises:
        InvalidMessage: not JSON, not UTF-8, or nested deeper than `MAX_DEPTH`.
        TooLarge: over `max_bytes`, where given.

    """
    if max_bytes is not None:
        check_size(raw, max_bytes)
    check_depth(raw)
    try:
        raw.decode()
        mask = Mask(raw)
        return mask.restore(msgspec.json.format(mask.masked, indent=-1))
    except UnicodeDecodeError as error:
        msg = f"The message is not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start}"
        raise InvalidMessage(msg) from None
    except msgspec.DecodeError as error:
        msg = f"The message is not JSON: {_reason(raw, error)} (got {shown(raw)})"
        if not raw.strip(b" \t\r\n"):
            msg = "The message is empty: send JSON, such as null"
        raise InvalidMessage(msg) from None


def _reason(raw: bytes, error: msgspec.DecodeError) -> str:
    """Say what is wrong with `raw`; the standard library does it best."""
    try:
        load(raw)
    except (ValueError, RecursionError) as better:
        return str(better)
    return str(error)


_ESCAPE = re.compile(rb"\\(?:u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Mask:
    """Something harmless in the place of escaped surrogates, and the way back.

    Half a surrogate pair (a stream that cuts an emoji in two) is JSON, and the reference carries it, but msgspec
    refuses it. The mask stands nowhere else in the text: it is random, so that nobody can write a message that has it.
    So whatever is kept of the text has to be restored first.
    """

    def __init__(self, raw: bytes) -> None:
        """Mask `raw`; the result is `masked`."""
        self._mask = b""
        self.masked = raw
        if _SURROGATE.search(raw):
            self._mask = b"~%b~" % os.urandom(8).hex().encode()
            self.masked = _ESCAPE.sub(lambda match: self._mask + match[1] if match[1] else match[0], raw)

    def restore(self, part: bytes) -> bytes:
        """Return JSON text as it was, from any part of the masked text."""
        return part.replace(self._mask, rb"\u") if self._mask else part

    def text(self, decoded: str) -> str:
        """Return a string that was decoded from the masked text as the sender meant it.

        Raises:
            ValueError: it holds half a surrogate pair, which is no text.

        """
        if not self._mask:
            return decoded
        mask = self._mask.decode()
        halves = re.sub(f"{mask}([0-9a-fA-F]{{4}})", lambda match: chr(int(match[1], 16)), decoded)
        return halves.encode("utf-16", "surrogatepass").decode("utf-16")


def shown(raw: bytes) -> str:
    """Return the first characters of `raw`, for an error message."""
    text = raw[:40].decode(errors="replace")
    return repr(text) + ("…" if len(raw) > len(text.encode()) else "")
