"""Requests that are made of the description, good ones and bad ones: no answer is a fault, or other than described."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from integration.test_described import open_service
from restate_pubsub.web.views.requested import AG_UI
from support.harness import Service, get

__all__ = ["open_service"]

FULL = os.environ.get("FUZZ") == "full"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
)
AMOUNT = ("--phases=coverage,fuzzing", "--max-examples=200") if FULL else ("--phases=fuzzing", "--max-examples=2")


async def test_no_request_is_answered_otherwise_than_described(open_service: Service, tmp_path: Path) -> None:
    """All routes; without the view whose response breaks off as long as no run has ended, which is no whole answer."""
    _, document, _ = await get(f"{open_service.url}/client/openapi.json")
    for method in ("get", "head"):
        parameters = document["paths"]["/pubsub/{topic}"][method]["parameters"]
        view = next(one for one in parameters if one["name"] == "view")
        view["schema"]["enum"].remove(AG_UI)
    described = tmp_path / "openapi.json"
    described.write_text(json.dumps(document))
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        *("run", str(described), "--url", open_service.url, "--checks", ",".join(CHECKS), *AMOUNT),
        *("--mode=all", "--continue-on-failure", "--request-timeout=20", "--suppress-health-check=all", "--no-color"),
        *(("--generation-database=none", "--workers=2") if FULL else ("--generation-deterministic",)),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 1100 if FULL else 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if FULL:
        print(out.decode())
    assert process.returncode == 0, out.decode()
    assert "Fuzzing" in out.decode()
