"""The Python library: publish, append, pull and token streams over the ingress.

Part of the base install: no server package here.
"""
