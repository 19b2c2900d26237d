"""What `helm test` runs: publish a message to a topic of its own, and read it from the stream whose URL is given."""

import json
import secrets
import subprocess
import sys
import urllib.request

SECONDS = 30
topic = f"helm-test-{secrets.token_hex(8)}"
message = {"text": "hi"}
url = f"{sys.argv[1]}/{topic}"
published = subprocess.run(
    ["restate-pubsub", "publish", topic, json.dumps(message), "--close"], check=False, timeout=SECONDS
)
if published.returncode:
    sys.exit(f"publishing to {topic} failed: is the object registered, and RESTATE_INGRESS_URL right?")
try:
    with urllib.request.urlopen(url, timeout=SECONDS) as stream:
        data = [line.removeprefix(b"data: ") for line in stream if line.startswith(b"data: ")]
except OSError as error:
    sys.exit(f"{url} cannot be read: {error}")
if not data or json.loads(data[0]) != message:
    sys.exit(f"{url} showed {data}, and not {message}")
print(f"published to {topic}, and read from {url}")
