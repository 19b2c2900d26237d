"""ASGI layers around the application, each usable by itself."""
