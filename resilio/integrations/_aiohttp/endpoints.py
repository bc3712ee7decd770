"""A request of aiohttp at an endpoint of a pool, and the endpoint's answer in terms of the pool's origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio.integrations._shared.endpoints import Service, address_of, located

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint

__all__ = ["answered", "at", "copied", "is_for"]


def is_for(service: Service, request: Any) -> bool:
    """Return True if a request is for the pool."""
    url = request.url
    return service.has(url.scheme, url.raw_host or "", url.port)


def copied(request: Any) -> Any:
    """Return a copy of a request with headers and `send` of its own; the body is shared."""
    copy: Any = object.__new__(request.__class__)
    copy.__dict__.update(request.__dict__)
    copy.__dict__.pop("send", None)
    copy.headers = request.headers.copy()
    return copy


def at(request: Any, endpoint: Endpoint) -> Any:
    """
    Return a copy of a request for an endpoint; the body is shared.

    Its `original_url` stays, by which aiohttp keeps cookies and follows redirects.

    Args:
        request: The request as its caller made it.

        endpoint: Where it will be sent.

    Raises:
        ValueError: The endpoint's target is no address of an HTTP server.
    """
    address, sent, url = address_of(endpoint), copied(request), request.url
    sent.url = type(url)(address.url(url.raw_path_qs, url.scheme), encoded=True)
    sent.headers["Host"] = address.host_header(url.scheme)
    if address.authorization is not None:
        sent.headers["Authorization"] = address.authorization
    sent.server_hostname = address.name
    return sent


def answered(request: Any, sent: Any, response: Any, endpoint: Endpoint) -> None:
    """
    Note on a response which endpoint it came from, and translate its `Location`.

    Args:
        request: The request as its caller made it.

        sent: Its copy for the endpoint.

        response: The answer.

        endpoint: The endpoint.
    """
    response._resilio_endpoint = endpoint
    headers = getattr(response, "_headers", {})
    if "location" not in headers:
        return
    own = located(headers["location"], str(sent.url), str(request.url), address_of(endpoint))
    if own is not None:
        changed = headers.copy()
        changed["location"] = own
        response._headers = type(headers)(changed)
        getattr(response, "_cache", {}).pop("headers", None)  # of the attribute `headers`
