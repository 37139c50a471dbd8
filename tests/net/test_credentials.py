"""Credentials: what each file must be, said by name, and whom a certificate names."""

from __future__ import annotations

import ssl
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flare_async.errors import ConfigError
from flare_async.net.credentials import peer_name
from flare_async.net.names import SITE_NAME
from tests.transports.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Return an authority for all tests of this file."""
    return Authority(tmp_path_factory.mktemp("authority"))


class Certificate:
    """What a connection tells of its peer's certificate."""

    def __init__(self, *alternatives, common_name=None):
        self._found = {"subjectAltName": alternatives, "subject": ((("organizationName", "o"),),)}
        if common_name is not None:
            self._found["subject"] += ((("commonName", common_name),),)

    def getpeercert(self):
        return self._found


@pytest.mark.parametrize("field", ["certificate", "key", "authority"])
def test_a_missing_file_is_named(authority, tmp_path, field):
    """The error has the field, the path and what the system says."""
    broken = replace(authority.server(), **{field: tmp_path / "absent.pem"})
    with pytest.raises(ConfigError, match=f"credentials.{field}=.*absent.pem.*No such file"):
        broken.server_context()
    with pytest.raises(ConfigError, match=f"credentials.{field}="):
        broken.client_context()


@pytest.mark.parametrize("field", ["certificate", "key", "authority"])
def test_a_file_of_another_kind_is_named(authority, tmp_path, field):
    """A folder and a text are neither certificate nor key."""
    text = tmp_path / "text.pem"
    text.write_text("no PEM at all")
    text.chmod(0o600)
    for path in (text, tmp_path):
        broken = replace(authority.server(), **{field: path})
        with pytest.raises(ConfigError, match=f"credentials.{field}="):
            broken.server_context()


def test_a_key_of_another_certificate_is_refused(authority):
    """Both files are named."""
    one, other = authority.server(), authority.client()
    with pytest.raises(ConfigError, match="does not belong to") as caught:
        replace(one, key=other.key).server_context()
    assert str(one.certificate) in str(caught.value)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666])
def test_b44_a_key_that_others_may_use_is_refused(authority, mode):
    """The error has the mode and the command that mends it."""
    credentials = authority.server()
    credentials.key.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode 0{mode:o}.*chmod 600"):
        credentials.client_context()
    credentials.key.chmod(0o640)
    assert credentials.client_context().check_hostname


def test_an_encrypted_key_asks_nobody(authority):
    """Without a terminal a question for the password would hang."""
    credentials = authority.server()
    first, rest = credentials.key.read_text().split("\n", 1)
    cipher = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC," + 16 * "0A"
    credentials.key.write_text(f"{first}\n{cipher}\n\n{rest}")
    with pytest.raises(ConfigError, match="encrypted"):
        credentials.server_context()


def test_contexts_speak_only_the_newest_version(authority):
    """TLS 1.3, certificates on both sides, no tickets; what is not mutual asks for none."""
    credentials = authority.server()
    server, client = credentials.server_context(), credentials.client_context()
    assert {server.minimum_version, client.minimum_version} == {ssl.TLSVersion.TLSv1_3}
    assert (server.verify_mode, client.verify_mode) == (ssl.CERT_REQUIRED, ssl.CERT_REQUIRED)
    assert (server.num_tickets, client.check_hostname) == (0, True)
    assert authority.server(mutual=False).server_context().verify_mode == ssl.CERT_NONE


def test_what_is_not_mutual_needs_fewer_files(authority, tmp_path):
    """A listener needs no authority then, and who connects needs nothing else."""
    absent = tmp_path / "absent"
    one_way = authority.server(mutual=False)
    assert replace(one_way, authority=absent).server_context()
    assert replace(one_way, certificate=absent, key=absent).client_context()


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        (Certificate(("DNS", "site-1")), "site-1"),
        (Certificate(("email", "a@b"), ("DNS", "site-1")), "site-1"),
        (Certificate(("email", "a@b")), "a@b"),
        (Certificate(("DNS", "x"), ("URI", "flare-async:site-2")), "site-2"),
        (Certificate(("URI", "spiffe://domain/site-2"), ("DNS", "x")), "x"),
        (Certificate(("URI", "site-2"), ("IP Address", "127.0.0.1")), None),
        (Certificate(("DNS", "*.example.org"), ("DNS", "b")), "b"),
        (Certificate(("DNS", "*.example.org"), common_name="site-3"), None),
        (Certificate(common_name="site-3"), "site-3"),
        (Certificate(common_name="two words"), None),
        (Certificate(("DNS", "a\x00b"), ("DNS", "x" * 129), ("DNS", "")), None),
        (Certificate(), None),
    ],
)
def test_the_name_of_a_certificate_follows_one_rule(certificate, name):
    """URI before DNS before email; the common name only where there is nothing else."""
    assert peer_name(certificate) == name


def test_no_certificate_names_nobody():
    """A peer that showed none has no name."""

    class Nothing:
        def getpeercert(self):
            return None

    assert peer_name(Nothing()) is None


@given(kind=st.sampled_from(["URI", "DNS", "email", "IP Address"]), value=st.text())
def test_a_name_is_always_a_sites_name(kind, value):
    """Whatever an authority has signed, the name fits where names of sites are expected."""
    for text in (value, f"flare-async:{value}"):
        name = peer_name(Certificate((kind, text), common_name=value))
        assert name is None or SITE_NAME.fullmatch(name)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), cut=st.integers(0, 1000))
def test_garbage_in_a_file_is_a_config_error(authority, tmp_path, data, cut):
    """Random bytes, and a good file that is cut off."""
    good = authority.server()
    path = tmp_path / "broken.pem"
    for field in ("certificate", "key", "authority"):
        whole = getattr(good, field).read_bytes()
        path.write_bytes(whole[: cut % (len(whole) - 30)] + data)
        path.chmod(0o600)
        with pytest.raises(ConfigError):
            replace(good, **{field: path}).server_context()
