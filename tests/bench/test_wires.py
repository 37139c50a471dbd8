"""Which transports benches know, and what they prove themselves with."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bench import wires
from flare_async.net import registry


@pytest.mark.parametrize("scheme", wires.NAMES)
def test_every_known_transport_is_available(scheme: str) -> None:
    """The bench of a transport that exists measures it."""
    assert wires.available(scheme)


def test_a_transport_without_its_module_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report then says so instead of failing."""
    monkeypatch.setitem(registry.BUILT_IN, "tls", ("flare_async.net.no_such_module", "X"))

    assert not wires.available("tls")
    assert not wires.available("carrier-pigeon")


def test_certificates_serve_both_ends(tmp_path: Path) -> None:
    """The product accepts them: the key is private, the chain fits it."""
    wires.write_certificates(str(tmp_path))
    proof = wires.credentials(str(tmp_path))

    assert proof is not None
    assert stat.S_IMODE(proof.key.stat().st_mode) == 0o600
    assert proof.server_context().verify_mode
    assert proof.client_context().check_hostname


def test_without_a_folder_there_are_no_credentials() -> None:
    """A plain transport needs none."""
    assert wires.credentials("") is None


@pytest.mark.parametrize(
    ("scheme", "address"),
    [("unix", "unix:///folder/ours"), ("tcp", "tcp://127.0.0.1:0"), ("wss", "wss://127.0.0.1:0")],
)
def test_listening_addresses_are_free_ones(scheme: str, address: str) -> None:
    """Two benches may run at once."""
    assert wires.listening(scheme, "/folder", "ours") == address
