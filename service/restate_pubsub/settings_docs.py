"""The reference of the settings, made from their declarations: for people, and for `config/`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic.fields import FieldInfo

from restate_pubsub import settings


def table(fields: Mapping[str, FieldInfo]) -> str:
    """Return the settings as text, grouped, one a paragraph."""
    lines: list[str] = []
    heading = ""
    for variable, field in fields.items():
        if settings.group(field) != heading:
            heading = settings.group(field)
            lines += [heading, "-" * len(heading), ""]
        about = ", ".join(part for part in (settings.kind(field), settings.rule(field)) if part)
        default = settings.shown(field, field.default)
        lines += [f"{variable}={default}" if default else variable, f"    {field.description} ({about})", ""]
    return "\n".join(lines)
