"""A request of httpx or httpx2 at an endpoint of a pool, and the endpoint's answer in terms of the pool's origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio.integrations._shared.endpoints import address_of, located

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint
    from resilio.integrations._httpx.common import Client

__all__ = ["ENDPOINT", "answered", "at"]

ENDPOINT = "resilio_endpoint"
"""Name of the endpoint among the extensions of a request that was sent to one, and of its response."""
_SNI = "sni_hostname"


def at(client: Client, request: Any, endpoint: Endpoint) -> Any:
    """
    Return a copy of a request for an endpoint; the body is shared.

    Args:
        client: The client of the request.

        request: The request as its caller made it.

        endpoint: Where it will be sent.

    Raises:
        ValueError: The endpoint's target is no address of an HTTP server.
    """
    address, url = address_of(endpoint), request.url
    headers, extensions = request.headers.copy(), {**request.extensions, ENDPOINT: endpoint}
    headers["host"] = address.host_header(url.scheme)
    if address.authorization is not None:
        headers["authorization"] = address.authorization
    extensions.pop(_SNI, None)
    if address.name is not None:
        extensions[_SNI] = address.name
    target = address.url(url.raw_path.decode("ascii"), url.scheme)
    return client.module.Request(request.method, target, headers=headers, stream=request.stream, extensions=extensions)


def answered(request: Any, sent: Any, response: Any) -> None:
    """
    Note on a response which endpoint it came from, and translate its `Location`.

    Args:
        request: The request as its caller made it.

        sent: Its copy for the endpoint.

        response: The answer.
    """
    endpoint = response.extensions[ENDPOINT] = sent.extensions[ENDPOINT]
    location = response.headers.get("location")
    if location is not None:
        own = located(location, str(sent.url), str(request.url), address_of(endpoint))
        if own is not None:
            response.headers["location"] = own
