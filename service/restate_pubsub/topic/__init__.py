"""The Virtual Object: handlers, the log as arithmetic, state keys.

Part of the base install; it knows no HTTP and no browser.
"""
