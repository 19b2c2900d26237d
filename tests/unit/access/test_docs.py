"""What docs/access.md gives to paste does what it says."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from restate_pubsub.access.keys import VerifyingKey, keys_of_set
from restate_pubsub.access.mint import Prefix, mint_token
from restate_pubsub.access.tokens import Verifier
from support.tokens import SECRET, ec_key, ed_key, public_pem, rsa_key

PAGE = (Path(__file__).parents[3] / "docs" / "access.md").read_text()
MINTING, JWKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


class Known:
    """The keys of a set that was fetched."""

    def __init__(self, document: object) -> None:
        self._keys = keys_of_set(document, [])

    async def find(self, kid: str | None) -> list[VerifyingKey]:
        return [key for key in self._keys if key.kid == kid]


async def test_the_program_makes_a_set_that_the_service_takes(tmp_path: Path) -> None:
    """Of keys of every kind; and tokens that name them are good."""
    pairs: dict[str, Any] = {"2026-01": rsa_key(), "2026-02": ec_key(), "2026-03": ed_key()}
    for name, key in pairs.items():
        (tmp_path / f"{name}.pem").write_text(public_pem(key))
    words = [sys.executable, "-c", JWKS, *(str(tmp_path / f"{name}.pem") for name in pairs)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    made, _ = await process.communicate()
    verifier = Verifier(Known(json.loads(made)))
    for name, key in pairs.items():
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        grant = await verifier.verify(mint_token(pem, subscribe=["a"], kid=name))
        assert grant.permits("subscribe", "a")


def test_the_line_that_makes_a_token_makes_one() -> None:
    """With the names that the page gives it."""
    names: dict[str, Any] = {"SECRET": SECRET, "user": "*"}
    exec(MINTING, names)  # noqa: S102 - it is our own page
    assert names["token"].count(".") == 2
    assert names["Prefix"] is Prefix


@pytest.mark.parametrize("action", ["subscribe", "publish", "control"])
def test_every_permission_is_explained(action: str) -> None:
    """In the table."""
    assert f"| `{action}` |" in PAGE
