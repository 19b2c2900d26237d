"""Look for known holes in what the lock files name, for `make audit`: the service's packages, and the npm package's.

The databases are on the network. Where one cannot be reached, that is said: nobody has looked there.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
UNREACHABLE = re.compile(
    r"ConnectionError|ConnectTimeout|Max retries|Name or service not known|Temporary failure|ENOTFOUND|ECONNREFUSED"
    r"|EAI_AGAIN|ENOAUDIT|audit endpoint returned an error|ServiceError|ProxyError",
)

UNKNOWN = "could not be audited"
"""What pip-audit says, without failing, where its database has never heard of the packages."""


def looked(what: str, words: list[str], folder: Path) -> bool:
    """Run an audit and print what it says; return whether it has found nothing, or could not look."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    said = done.stdout + done.stderr
    if (done.returncode and UNREACHABLE.search(said)) or UNKNOWN in said:
        sys.stdout.write(f"{what}: not looked at, as the database of known holes cannot be reached from here\n")
        return True
    sys.stdout.write(f"{what}: {said.strip() or 'no known holes'}\n")
    return done.returncode == 0


if __name__ == "__main__":
    options = ["--requirement", "requirements.lock", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    found = [
        looked("requirements.lock", [str(Path(sys.argv[1]).absolute()), *options], ROOT),
        looked("clients/javascript", ["npm", "audit", "--omit", "dev"], ROOT / "clients" / "javascript"),
        looked("the local Restate server", ["npm", "audit", "--omit", "dev"], ROOT),
    ]
    sys.exit(0 if all(found) else 1)
