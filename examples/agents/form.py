"""The form in which the agents write: what the example chat's page reads, or `useChat` of the Vercel AI SDK."""

from __future__ import annotations

import os

from restate_pubsub.ext.encoders import Encoder, ai_sdk, plain

FORMS: dict[str, Encoder] = {"chat": plain, "ai-sdk": ai_sdk}

encode = FORMS[os.environ.get("CHAT_FORM", "chat")]
