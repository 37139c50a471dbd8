"""Certificates for tests: an authority that lives in a folder and issues credentials as files."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flare_async.net.credentials import Credentials

HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Authority:
    """Issues credentials below ``folder``; ``believes`` is the file of those that holders trust."""

    folder: Path
    ca: trustme.CA = field(default_factory=trustme.CA)

    @property
    def file(self) -> Path:
        """Return the authority's own certificate as a file."""
        path = self.folder / "authority.pem"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca.cert_pem.write_to_path(str(path))
        return path

    def issue(self, *names: str, mutual: bool = True, **options: object) -> Credentials:
        """Return credentials for host names, IP or email addresses; options are trustme's."""
        leaf = self.ca.issue_cert(*names, **options)
        chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
        return self.written(chain, leaf.private_key_pem.bytes(), mutual=mutual)

    def server(self, *, mutual: bool = True) -> Credentials:
        """Return credentials of a listener on this machine, named ``localhost``."""
        return self.issue(*HERE, mutual=mutual)

    def client(self, name: str = "site-1", *, mutual: bool = True) -> Credentials:
        """Return credentials of a site; without ``mutual`` it shows no certificate."""
        return self.issue(name, mutual=mutual)

    def expired(self, *names: str) -> Credentials:
        """Return credentials that ended yesterday."""
        return self.issue(*names, not_before=days(-9), not_after=days(-1))

    def not_yet_valid(self, *names: str) -> Credentials:
        """Return credentials that begin tomorrow."""
        return self.issue(*names, not_before=days(1), not_after=days(9))

    def self_signed(self, name: str = "site-1") -> Credentials:
        """Return credentials that nobody but their holder has signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._built(x509.DNSName(name), key, key, "client")

    def for_servers_only(self, name: str = "site-1") -> Credentials:
        """Return credentials whose certificate may not be shown by who connects."""
        return self._signed(x509.DNSName(name), "server")

    def with_uri(self, uri: str) -> Credentials:
        """Return credentials whose only alternative name is a URI."""
        return self._signed(x509.UniformResourceIdentifier(uri), "client")

    def written(self, chain: bytes, key: bytes, *, mutual: bool = True) -> Credentials:
        """Write PEM files of a new holder and return them as credentials."""
        authority = self.file
        number = len(list(self.folder.iterdir()))
        folder = self.folder / f"holder-{number}"
        folder.mkdir()
        certificate, key_file = folder / "certificate.pem", folder / "key.pem"
        certificate.write_bytes(chain)
        key_file.write_bytes(key)
        key_file.chmod(0o600)
        return Credentials(certificate, key_file, authority, mutual)

    def _signed(self, name: x509.GeneralName, usage: str) -> Credentials:
        pem = self.ca.private_key_pem.bytes()
        signer = serialization.load_pem_private_key(pem, password=None)
        key = ec.generate_private_key(ec.SECP256R1())
        return self._built(name, key, signer, usage)

    def _built(self, name: x509.GeneralName, key, signer, usage: str) -> Credentials:
        own = x509.load_pem_x509_certificate(self.ca.cert_pem.bytes())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "tests")])
        role = x509.ExtendedKeyUsageOID
        purpose = role.SERVER_AUTH if usage == "server" else role.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder(subject_name=subject, public_key=key.public_key())
            .issuer_name(subject if key is signer else own.subject)
            .serial_number(x509.random_serial_number())
            .not_valid_before(days(-1))
            .not_valid_after(days(9))
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        pem = serialization.Encoding.PEM
        plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        certificate = builder.sign(signer, hashes.SHA256())
        return self.written(certificate.public_bytes(pem), key.private_bytes(pem, *plain))


def days(number: int) -> datetime.datetime:
    """Return a moment that many days from now."""
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=number)
