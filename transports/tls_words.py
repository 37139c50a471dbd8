"""What TLS says when it refuses, in words for an error."""

from __future__ import annotations

import ssl
from typing import Final

__all__ = ["Refusal", "refusal"]

Refusal = tuple[str, str]  # the problem, and a hint or nothing

_NO_TLS: Final = "is there TLS on both sides, and is it the right port?"
_OLD: Final = "both sides need TLS 1.3"
_HINTS: Final = {
    "HTTP_REQUEST": "this is a flare_async port that speaks TLS, not HTTP",
    "HTTPS_PROXY_REQUEST": "this is a flare_async port that speaks TLS, not a proxy",
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "PACKET_LENGTH_TOO_LONG": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _OLD,
    "NO_PROTOCOLS_AVAILABLE": _OLD,
    "TLSV1_ALERT_PROTOCOL_VERSION": _OLD,
    "TLSV1_ALERT_UNKNOWN_CA": "it does not believe the authority of our certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it demands a certificate, and we have shown none",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it must show a certificate of our authority",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "ask for a new certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "our certificate is not made for this side's part",
}
_PREFIXES: Final = ("SSLV3_ALERT_", "TLSV1_ALERT_", "TLSV13_ALERT_")


def refusal(exc: ssl.SSLError) -> Refusal:
    """Return who refused what, and a hint."""
    reason = exc.reason or ""
    hint = _HINTS.get(reason, "")
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"TLS: we refused its certificate: {exc.verify_message or _plain(reason)}", hint
    for prefix in _PREFIXES:
        if reason.startswith(prefix):
            return f"TLS: it refused us: {_plain(reason.removeprefix(prefix))}", hint
    return f"TLS: {_plain(reason) or str(exc)}", hint


def _plain(reason: str) -> str:
    return reason.replace("_", " ").lower()
