"""A prepared request of requests at an endpoint of a pool, and the answer in terms of the pool's origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from resilio.integrations._shared.endpoints import Address, Service, address_of, located

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilio._policies.pool.endpoint import Endpoint

__all__ = ["answered", "at", "is_for", "with_tls_name"]


def is_for(service: Service, request: Any) -> bool:
    """Return True if a prepared request is for the pool."""
    parts = urlsplit(request.url)
    return service.has(parts.scheme, parts.hostname or "", parts.port)


def at(request: Any, endpoint: Endpoint) -> Any:
    """
    Return a copy of a prepared request for an endpoint; the body is shared.

    Args:
        request: The request as its caller made it.

        endpoint: Where it will be sent.

    Raises:
        ValueError: The endpoint's target is no address of an HTTP server.
    """
    address, sent, scheme = address_of(endpoint), request.copy(), urlsplit(request.url).scheme
    sent.url = address.url(request.path_url, scheme)
    sent.headers["Host"] = address.host_header(scheme)
    if address.authorization is not None:
        sent.headers["Authorization"] = address.authorization
    sent._resilio_endpoint, sent._resilio_tls_name = endpoint, address.name
    return sent


def with_tls_name(build: Callable[..., Any], request: Any, *options: Any) -> Any:
    """
    Return where urllib3 connects to, with the name of the endpoint's certificate if it has one of its own.

    Args:
        build: The adapter's `build_connection_pool_key_attributes`.

        request: A prepared request for an endpoint.

        options: Its further arguments.
    """
    host, tls = build(request, *options)
    name = getattr(request, "_resilio_tls_name", None)
    return host, tls if name is None else {**tls, "assert_hostname": name, "server_hostname": name}


def answered(request: Any, sent: Any, response: Any, read_cookies: Any) -> None:
    """
    Give an endpoint's answer the caller's request, its cookies the pool's origin, and translate its `Location`.

    Args:
        request: The request as its caller made it.

        sent: Its copy for the endpoint.

        response: The answer.

        read_cookies: `requests.cookies.extract_cookies_to_jar`.
    """
    response.request, response.url, response._resilio_endpoint = request, request.url, sent._resilio_endpoint
    response.cookies.clear()
    read_cookies(response.cookies, request, response.raw)
    location = response.headers.get("location")
    if location is not None:
        address: Address = address_of(sent._resilio_endpoint)
        own = located(location, sent.url, request.url, address)
        if own is not None:
            response.headers["location"] = own
