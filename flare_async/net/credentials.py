"""Who this process is and whom it believes: PEM files, and the TLS contexts made from them.

TLS 1.3 only. A mutual listener demands a certificate from whoever connects. A certificate's
**name** is decided by one rule, ``peer_name``: of the subject alternative names the first that is a
site's name, in the order URI (``flare-async:NAME``, nothing else of a URI counts), DNS, email; the
common name only where the certificate has no alternative names at all. IP addresses name nobody.
"""

from __future__ import annotations

import ssl
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from flare_async.errors import ConfigError
from flare_async.net.names import SITE_NAME

__all__ = ["URI_SCHEME", "Credentials", "peer_name"]

URI_SCHEME: Final = "flare-async:"
_OTHERS: Final = stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files (PEM) that prove who this process is and whom it believes.

    With ``mutual`` off a listener asks for no certificate and a connecting side shows none, so that
    accepted links have no identity; only the authority (connecting) or only the other two files
    (listening) are then read.
    """

    certificate: Path  # the chain, own certificate first
    key: Path  # not readable for others
    authority: Path  # certificates of those who may issue
    mutual: bool = True  # a listener demands certificates

    def server_context(self) -> ssl.SSLContext:
        """Return a new context for a listener. Reads files: call it in a thread.

        Raises:
            ConfigError: a file is missing, unreadable or not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0  # a resumed session skips the certificates, and tickets cost memory
        self._load_own(context)
        if self.mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            self._load_authority(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a new context for connecting; it checks the host's name. Reads files.

        Raises:
            ConfigError: a file is missing, unreadable or not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._load_authority(context)
        if self.mutual:
            self._load_own(context)
        return context

    def _load_own(self, context: ssl.SSLContext) -> None:
        _check_readable("certificate", self.certificate)
        _check_readable("key", self.key)
        _check_private(self.key)
        if "PRIVATE KEY-----" not in self.key.read_text("ascii", "replace"):
            _refuse("key", self.key, "holds no private key in PEM")
        if "BEGIN CERTIFICATE-----" not in self.certificate.read_text("ascii", "replace"):
            _refuse("certificate", self.certificate, "holds no certificate in PEM")
        try:
            context.load_cert_chain(self.certificate, self.key, self._ask_password)
        except ssl.SSLError as exc:
            if exc.reason == "KEY_VALUES_MISMATCH":
                _refuse("key", self.key, f"does not belong to {self.certificate}")
            _refuse("certificate", self.certificate, f"cannot be used with its key: {_words(exc)}")

    def _load_authority(self, context: ssl.SSLContext) -> None:
        _check_readable("authority", self.authority)
        try:
            context.load_verify_locations(self.authority)
        except ssl.SSLError as exc:
            _refuse("authority", self.authority, f"holds no usable certificate: {_words(exc)}")

    def _ask_password(self) -> NoReturn:
        problem, hint = "is encrypted, and nobody can be asked", "store it without a password"
        raise ConfigError("credentials.key", str(self.key), problem, hint)


def peer_name(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> str | None:
    """Return the name that the peer's verified certificate vouches for, or None."""
    certificate = ssl_object.getpeercert()
    if not certificate:
        return None
    found = [str(name) for name in _names(certificate) if SITE_NAME.fullmatch(str(name))]
    return found[0] if found else None


def _names(certificate: Mapping[str, object]) -> Iterator[str]:
    alternatives = list(_pairs(certificate.get("subjectAltName")))
    if not alternatives:
        for part in _items(certificate.get("subject")):
            yield from (value for kind, value in _pairs(part) if kind == "commonName")
    for wanted, prefix in (("URI", URI_SCHEME), ("DNS", ""), ("email", "")):
        for kind, value in alternatives:
            if kind == wanted and value.startswith(prefix):
                yield value.removeprefix(prefix)


def _pairs(found: object) -> Iterator[tuple[str, str]]:
    for item in _items(found):
        match item:
            case (str(kind), str(value)):
                yield kind, value
            case _:
                continue


def _items(found: object) -> Iterable[object]:
    return found if isinstance(found, tuple) else ()


def _check_readable(field: str, path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except (OSError, ValueError) as exc:
        _refuse(field, path, getattr(exc, "strerror", None) or str(exc))


def _check_private(key: Path) -> None:
    mode = stat.S_IMODE(key.stat().st_mode)
    if sys.platform != "win32" and mode & _OTHERS:
        problem, hint = f"others may use it (mode {mode:04o})", f"chmod 600 {key}"
        raise ConfigError("credentials.key", str(key), problem, hint)


def _refuse(field: str, path: Path, problem: str) -> NoReturn:
    raise ConfigError(f"credentials.{field}", str(path), problem)


def _words(exc: ssl.SSLError) -> str:
    return (exc.reason or str(exc)).replace("_", " ").lower()
