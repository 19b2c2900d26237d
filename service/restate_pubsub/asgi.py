"""`restate_pubsub.asgi:app`, for any ASGI server; settings come from the environment.

Under another server, its own shutdown applies: streams end when it closes their connections.
"""

import os

from restate_pubsub.server.app import create_service
from restate_pubsub.settings.fields import load
from restate_pubsub.telemetry.logs import configure
from restate_pubsub.telemetry.tracing.asked import tracing_from

_settings = load(os.environ, strict=True)
configure(_settings)
app = create_service(_settings, tracing=tracing_from(os.environ)).app
