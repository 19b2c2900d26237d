"""Why somebody could not be reached, in words."""

from __future__ import annotations

import errno
import socket
import ssl

import aiohttp

from restate_pubsub.protocol.urls import redacted


def reason(error: BaseException) -> str:  # noqa: PLR0911 - one line a kind
    """Say what an error of a connection means; its own text where there is nothing better."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}: see HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy does not answer ({_cause(error.os_error)}): see HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not accepted ({error.certificate_error})"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        cause = error.os_error
        if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return "it does not speak TLS: use http:// instead of https://"
        return f"TLS failed ({_text(cause)})"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _cause(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    return _text(error)


def _cause(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"its name is not known here ({error.strerror})"
    # Where a name has several addresses, the error of the last one, or a text about all of them, is all there is.
    if error.errno == errno.ECONNREFUSED or "Connect call failed" in str(error):
        return "nothing listens there"
    return _text(error)


def _text(error: BaseException) -> str:
    return redacted(str(error)) or type(error).__name__
