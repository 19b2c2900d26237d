"""Durations and sizes with units, as settings write them: `30s`, `10m`, `4MiB`."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}


def parse_duration(text: str) -> float:
    """Return seconds. Raises ValueError with what is allowed."""
    match = _NUMBER.fullmatch(text.strip())
    if match is not None and not match[2] and not float(match[1]):
        return 0.0  # the one number that needs no unit
    if match is None or match[2] not in _SECONDS:
        msg = "not a duration: use a number with ms, s, m, h or d, such as 500ms, 30s or 10m"
        raise ValueError(msg)
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Return bytes. Raises ValueError with what is allowed."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or match[2].lower() not in _BYTES:
        msg = "not a size: use a number with B, KiB, MiB or GiB, such as 64KiB or 4MiB"
        raise ValueError(msg)
    return int(float(match[1]) * _BYTES[match[2].lower()])


def format_duration(seconds: float) -> str:
    """Write seconds with the largest unit that leaves a whole number."""
    if seconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    return f"{seconds * 1000:.12g}ms" if seconds < 1 else f"{seconds:.12g}s"


def format_size(size: int) -> str:
    """Write bytes with the largest unit that leaves a whole number."""
    for name, unit in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size}B"
