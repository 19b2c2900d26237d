"""The chart's provenance file: what Helm checks with `helm install --verify`, as `helm package --sign` writes it.

It holds the chart's Chart.yaml and the digest of its archive, signed by a key of GnuPG.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

SIGNER = "CHART_SIGNER"
"""The variable that names the key: its fingerprint, or the address in it. Without it, nothing is signed."""


def content(archive: Path) -> str:
    """Return what is signed: two documents of YAML, with the line between them that Helm looks for."""
    with tarfile.open(archive) as files:
        described = files.extractfile("restate-pubsub/Chart.yaml") or io.BytesIO()
        metadata = described.read().decode().rstrip("\n")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return f"{metadata}\n\n...\nfiles:\n  {archive.name}: sha256:{digest}\n"


def sign(archive: Path, epoch: int, environ: Mapping[str, str] = os.environ) -> None:
    """Write the signed file beside the archive, where a key is named.

    The signature's time is the commit's, so that the same key gives the same bytes.
    """
    if not (signer := environ.get(SIGNER)):
        return
    words = ["gpg", "--batch", "--yes", "--armor", "--digest-algo=SHA512", f"--faked-system-time={epoch}!"]
    done = subprocess.run(  # noqa: S603 - our own words, and whoever releases names the key
        [*words, f"--local-user={signer}", "--clearsign"],
        check=True,
        env=dict(environ),
        input=content(archive),
        capture_output=True,
        text=True,
    )
    archive.with_name(f"{archive.name}.prov").write_text(done.stdout)
