"""Traces by OpenTelemetry, for whom its own variables ask. Nothing of it is imported otherwise."""
