"""What the environment holds beside the settings' values: files with secrets in them, names that are no settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from restate_pubsub.errors import ConfigError

PREFIX = "PUBSUB_"
FILE = "_FILE"
"""`PUBSUB_JWT_KEY_FILE` names a file that holds what `PUBSUB_JWT_KEY` would."""
MAX_FILE_BYTES = 64 * 1024

# Kubernetes describes a Service named `pubsub` in these, and the emulator of Google's Pub/Sub is found by the last.
_FOREIGN = re.compile(
    r"PUBSUB_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
    r"|PUBSUB_EMULATOR_HOST"
)
_SERVICE_PORT = re.compile(r"(?:tcp|udp|sctp)://.*")


def with_secret_files(environ: Mapping[str, str], secrets: Collection[str]) -> dict[str, str]:
    """Return the environment, each secret that is given by its file read from there.

    Line ends at a file's end belong to the file, as in a shell's `$(cat FILE)`.

    Raises:
        ConfigError: a secret that is given twice, or a file that cannot be used.

    """
    found = dict(environ)
    for name in secrets:
        path = environ.get(name + FILE)
        if not path:
            continue
        if environ.get(name):
            msg = f"{name} and {name}{FILE} are both set: unset one of them"
            raise ConfigError(msg)
        found[name] = _read(name + FILE, path)
    return found


def _read(variable: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            msg = f"{variable}={path!r}: has more than {MAX_FILE_BYTES} bytes, which no secret has"
            raise ConfigError(msg)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        msg = f"{variable}={path!r}: cannot be read: {error.strerror}"
        raise ConfigError(msg) from None
    except ValueError:
        msg = f"{variable}={path!r}: is not UTF-8 text; a key in DER has to be written as PEM"
        raise ConfigError(msg) from None
    if not text:
        msg = f"{variable}={path!r}: is empty"
        raise ConfigError(msg)
    return text


def unknown(environ: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Return the `PUBSUB_*` variables that no setting reads: most often a typing error."""
    return sorted(
        name
        for name, value in environ.items()
        if name.startswith(PREFIX) and name not in known and not _is_foreign(name, value)
    )


def _is_foreign(name: str, value: str) -> bool:
    return _FOREIGN.fullmatch(name) is not None or (name.endswith("_PORT") and _SERVICE_PORT.match(value) is not None)


def no_such_setting(name: str, known: Collection[str]) -> str:
    """Say that there is no such setting, and which one may be meant."""
    (*close,) = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    meant = f"did you mean {close[0]}?" if close else "remove it"
    return f"{name}: no setting has this name; {meant} `restate-pubsub settings` lists all of them"
