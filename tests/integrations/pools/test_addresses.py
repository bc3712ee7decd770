"""Addresses: what a target says of where a request goes, and what a redirect says of where it leads."""

from __future__ import annotations

import pytest

from resilio import Endpoint
from resilio.integrations._shared.endpoints import address_of, located, origin_of


@pytest.mark.parametrize(
    ("target", "scheme", "url", "host"),
    [
        ("https://a.internal", "http", "https://a.internal/x?y=%20", "a.internal"),
        ("https://a.internal:443/", "http", "https://a.internal:443/x?y=%20", "a.internal"),
        ("http://a.internal:8080/v1/", "https", "http://a.internal:8080/v1/x?y=%20", "a.internal:8080"),
        ("10.0.0.7:443", "https", "https://10.0.0.7:443/x?y=%20", "10.0.0.7"),
        ("10.0.0.7:443", "http", "http://10.0.0.7:443/x?y=%20", "10.0.0.7:443"),
        ("[::1]:8080", "http", "http://[::1]:8080/x?y=%20", "[::1]:8080"),
        ("a.internal", "http", "http://a.internal/x?y=%20", "a.internal"),
    ],
)
def test_a_target_says_where_a_request_goes(target: str, scheme: str, url: str, host: str) -> None:
    """Scheme, host, port and base path; `Host` leaves out the usual port."""
    address = address_of(Endpoint(target))
    assert (address.url("/x?y=%20", scheme), address.host_header(scheme)) == (url, host)


def test_a_label_names_the_server_of_an_address() -> None:
    """As resolvers give it to the addresses of a host."""
    address = address_of(Endpoint("10.0.0.7:443", host="search.internal"))
    assert (address.netloc, address.host_header("https")) == ("10.0.0.7:443", "search.internal")


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("http://a:8080/base/next?q=1#part", "http://search/next?q=1#part"),
        ("http://A:8080/base", "http://search/"),
        ("/base/next", "http://search/next"),
        ("next", "http://search/next"),
        ("http://named:8080/base/next", "http://search/next"),
        ("/outside", "http://a:8080/outside"),
        ("/based", "http://a:8080/based"),
        ("https://a:8080/base/next", None),
        ("http://a/base/next", None),
        ("http://b:8080/base/next", None),
        ("//b:8080/base/next", None),
    ],
)
def test_a_redirect_leads_to_the_pool_or_where_it_says(location: str, found: str | None) -> None:
    """Only one to the endpoint itself, below its base path, is one to the pool; None: left as it is."""
    address = address_of(Endpoint("http://a:8080/base", host="named"))
    assert located(location, "http://a:8080/base/x", "http://me:secret@search/x", address) == found


@pytest.mark.parametrize(
    "value", ["api.example.com", "https://api.example.com/v1", "ftp://api.example.com", "https://"]
)
def test_an_origin_is_a_url_without_a_path(value: str) -> None:
    """The error shows one."""
    with pytest.raises(ValueError, match="origin must be a URL without a path"):
        origin_of(value)
    with pytest.raises(TypeError, match="origin must be"):
        origin_of(443)


def test_an_origin_knows_the_usual_port() -> None:
    """`https://api.example.com` and `https://api.example.com:443` are one, in any case of letters."""
    origin = origin_of("https://API.example.com")
    assert origin.has("https", "api.EXAMPLE.com", None)
    assert origin.has("https", "api.example.com", 443)
    assert not origin.has("http", "api.example.com", None)
    assert not origin.has("https", "api.example.com", 8443)
