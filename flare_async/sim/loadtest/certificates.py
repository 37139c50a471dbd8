"""The certificate of one load test's server, which its clients trust and nobody else.

Clients show none: each would need its own, since a certificate speaks for one site only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flare_async.errors import ConfigError, MissingExtra
from flare_async.net.credentials import Credentials

__all__ = ["credentials_in", "write_certificates"]

CERTIFICATE: Final = "certificate.pem"
KEY: Final = "key.pem"
AUTHORITY: Final = "authority.pem"


def write_certificates(folder: Path, *hosts: str) -> None:
    """Write an authority and a server's certificate for these hosts.

    Raises:
        MissingExtra: trustme is not installed.
    """
    try:
        import trustme
    except ImportError as exc:
        raise MissingExtra("trustme", "load") from exc
    authority = trustme.CA()
    issued = authority.issue_cert(*hosts, common_name="load")
    authority.cert_pem.write_to_path(folder / AUTHORITY)
    (folder / KEY).touch(mode=0o600)
    issued.private_key_pem.write_to_path(folder / KEY)
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(folder / CERTIFICATE, append=number > 0)


def credentials_in(folder: str, *, joins: bool = False) -> Credentials | None:
    """Return what ``write_certificates`` wrote there; None for no folder.

    Who ``joins`` needs the authority alone, so that the key stays where the server is.

    Raises:
        ConfigError: a file is missing.
    """
    if not folder:
        return None
    root = Path(folder)
    for name in (AUTHORITY,) if joins else (CERTIFICATE, KEY):
        if not (root / name).is_file():
            raise ConfigError("certificates", folder, f"has no {name}")
    return Credentials(root / CERTIFICATE, root / KEY, root / AUTHORITY, mutual=False)
