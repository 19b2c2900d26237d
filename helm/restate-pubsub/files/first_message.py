"""What `helm test` runs: publish a message to a topic of its own, and read it from the stream whose URL is given.

Where readers need tokens, it signs one with the shared secret. With a public key it cannot: then a 401 is right.
"""

import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request

from restate_pubsub.access.mint import mint_token

SECONDS = 30
ASKED = {"audience": "AUDIENCE", "issuer": "ISSUER", "claim": "CLAIM", "algorithm": "ALGORITHMS"}
"""What a token must have, by the end of the setting that says so."""
topic = f"helm-test-{secrets.token_hex(8)}"
message = {"text": "hi"}
url = f"{sys.argv[1]}/{topic}"
published = subprocess.run(
    ["restate-pubsub", "publish", topic, json.dumps(message), "--close"], check=False, timeout=SECONDS
)
if published.returncode:
    sys.exit(f"publishing to {topic} failed: is the object registered, and RESTATE_INGRESS_URL right?")
headers = {}
key = os.environ.get("PUBSUB_JWT_KEY", "")
shared = bool(key) and "-----BEGIN" not in key
if shared:
    first = {name: os.environ.get(f"PUBSUB_JWT_{end}", "").split(",")[0].strip() for name, end in ASKED.items()}
    token = mint_token(key, subscribe=[topic], lasts=2 * SECONDS, **{name: it for name, it in first.items() if it})
    headers["Authorization"] = f"Bearer {token}"
try:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SECONDS) as stream:
        data = [line.removeprefix(b"data: ") for line in stream if line.startswith(b"data: ")]
except urllib.error.HTTPError as error:
    if error.code == 401 and not shared and (key or os.environ.get("PUBSUB_JWKS_URL")):
        sys.exit(print(f"published to {topic}; {url} wants a token, as it should"))
    sys.exit(f"{url} cannot be read: {error}")
except OSError as error:
    sys.exit(f"{url} cannot be read: {error}")
if not data or json.loads(data[0]) != message:
    sys.exit(f"{url} showed {data}, and not {message}")
print(f"published to {topic}, and read from {url}; from outside, `restate-pubsub doctor` tries what stands between")
