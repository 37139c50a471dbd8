"""WebSocket addresses, and the proxies that the environment names for them."""

from __future__ import annotations

import pytest

from flare_async.errors import ConfigError
from flare_async.transports.websocket_address import Place, Proxy

VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Return a function that sets variables, from which all proxies have been removed."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return lambda **found: [monkeypatch.setenv(name, value) for name, value in found.items()]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ws://host", "ws://host:80/flare"),
        ("wss://host/", "wss://host:443/flare"),
        ("ws://[::1]:8/a/b", "ws://[::1]:8/a/b"),
    ],
)
def test_an_address_has_usual_parts(address, shown):
    """Port and path may be left out."""
    assert str(Place.parse(address)) == shown


@pytest.mark.parametrize(
    "address",
    ["ws://", "ws://host:x/", "ws://host/a?b", "ws://me@host/", "ws://host/a#b", "ws://host/a b"],
)
def test_what_is_no_address_is_refused(address):
    """The error names it."""
    with pytest.raises(ConfigError) as caught:
        Place.parse(address)
    assert caught.value.value == address


def test_each_scheme_has_its_variable(environment):
    """HTTP_PROXY for ws, HTTPS_PROXY for wss; user and password become a header."""
    environment(HTTP_PROXY="http://plain:3128", HTTPS_PROXY="me:a%40b@tls")
    assert Proxy.of_environment(Place.parse("ws://host")) == Proxy("plain", 3128)
    found = Proxy.of_environment(Place.parse("wss://host"))
    assert found == Proxy("tls", 80, "Basic bWU6YUBi")
    assert "a@b" not in str(found)


def test_no_proxy_names_exceptions(environment):
    """By host and by domain."""
    environment(http_proxy="http://plain:3128", no_proxy="here,.inside.org")
    hosts = ("here", "a.inside.org", "elsewhere")
    found = [Proxy.of_environment(Place.parse(f"ws://{host}:8")) is None for host in hosts]
    assert found == [True, True, False]


@pytest.mark.parametrize("url", ["https://proxy:1", "socks5://proxy:1", "http://proxy:x"])
def test_a_proxy_of_another_kind_is_refused(environment, url):
    """Without a word of the password that it may hold."""
    environment(http_proxy=url.replace("proxy", "me:secret@proxy"))
    with pytest.raises(ConfigError) as caught:
        Proxy.of_environment(Place.parse("ws://host"))
    assert "HTTP_PROXY" in str(caught.value)
    assert "secret" not in str(caught.value)
