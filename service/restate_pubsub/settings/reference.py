"""The reference of the settings, made from their declarations: for people, and for `config/`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic.fields import FieldInfo

from restate_pubsub.settings import fields as settings


def markdown(fields: Mapping[str, FieldInfo]) -> str:
    """Return the reference page."""
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable; one that is empty counts as not set. Durations are a number with",
        "`ms`, `s`, `m`, `h` or `d`, sizes a number with `B`, `KiB`, `MiB` or `GiB`. `restate-pubsub settings` prints",
        "them too; a value that is not allowed, or a `PUBSUB_*` variable that is no setting, ends the start with one",
        "line that names it. A secret may be in a file instead, named by the same variable with `_FILE` at its end:",
        "line ends at the file's end do not count.",
    ]
    heading = ""
    for variable, field in fields.items():
        if settings.group(field) != heading:
            heading = settings.group(field)
            lines += ["", f"## {heading}", "", "| variable | default | what for | allowed |", "|---|---|---|---|"]
        default = settings.shown(field, field.default)
        shown = f"`{default}`" if default else "none"
        cells = (f"`{variable}`", shown, field.description or "", settings.allowed(field))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def environment_file(fields: Mapping[str, FieldInfo]) -> str:
    """Return an example for `docker run --env-file` and systemd: every setting, commented out at its default."""
    lines = ["# Settings of restate-pubsub at their defaults: remove the # of what you change. See config/settings.md."]
    heading = ""
    for variable, field in fields.items():
        if settings.group(field) != heading:
            heading = settings.group(field)
            lines += ["", f"# {heading}"]
        lines += [f"# {field.description}", f"#{variable}={settings.shown(field, field.default)}"]
        if settings.is_secret(field):
            lines.append(f"#{variable}_FILE=")
    return "\n".join([*lines, ""])


def table(fields: Mapping[str, FieldInfo]) -> str:
    """Return the settings as text, grouped, one a paragraph."""
    lines: list[str] = []
    heading = ""
    for variable, field in fields.items():
        if settings.group(field) != heading:
            heading = settings.group(field)
            lines += [heading, "-" * len(heading), ""]
        default = settings.shown(field, field.default)
        lines += [
            f"{variable}={default}" if default else variable,
            f"    {field.description} ({settings.allowed(field)})",
            "",
        ]
    return "\n".join(lines)
