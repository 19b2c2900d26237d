"""Calls to the object's handlers over Restate's ingress: URLs, connections, answers, errors as this project's own.

It knows HTTP, and what Restate and our object answer. It must never know who calls, or try again by itself.
"""

from restate_pubsub.ingress.connection import Ingress

__all__ = ["Ingress"]
