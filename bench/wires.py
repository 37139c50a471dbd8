"""The transports that benches can measure, and where their processes find one another."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from flare_async.limits import Limits
from flare_async.net import registry
from flare_async.net.credentials import Credentials
from flare_async.net.registry import Transports

__all__ = [
    "NAMES",
    "NOT_AVAILABLE",
    "available",
    "credentials",
    "listening",
    "transports",
    "write_certificates",
]

NAMES: Final = ("tcp", "unix", "tls", "ws", "wss")
NOT_AVAILABLE: Final = "not available"
HOST: Final = "127.0.0.1"
CERTIFICATE, KEY, AUTHORITY = "certificate.pem", "key.pem", "authority.pem"


def available(scheme: str) -> bool:
    """Return whether the package has a transport of that scheme."""
    module, _ = registry.BUILT_IN.get(scheme, ("", ""))
    return bool(module) and find_spec(module) is not None


def listening(scheme: str, folder: str, name: str) -> str:
    """Return where to listen: a free port of this machine, or a socket file in ``folder``."""
    if scheme == "unix":
        return f"unix://{folder}/{name}"
    return f"{scheme}://{HOST}:0"


def write_certificates(folder: str) -> None:
    """Write an authority and one certificate, which serves both ends of every connection."""
    import trustme

    root, authority = Path(folder), trustme.CA()
    issued = authority.issue_cert(HOST, "localhost", common_name="bench")
    authority.cert_pem.write_to_path(root / AUTHORITY)
    (root / KEY).touch(mode=0o600)
    issued.private_key_pem.write_to_path(root / KEY)
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(root / CERTIFICATE, append=number > 0)


def credentials(folder: str) -> Credentials | None:
    """Return what ``write_certificates`` wrote there; None without a folder."""
    if not folder:
        return None
    root = Path(folder)
    return Credentials(root / CERTIFICATE, root / KEY, root / AUTHORITY)


def transports(limits: Limits, folder: str) -> Transports:
    """Return all transports, with the certificates of ``folder``."""
    return Transports(limits, credentials(folder))
