"""
Where a request of an HTTP client goes when its policy has a pool: to the endpoint that the call has picked.

To the client and its caller a pool is one origin, `https://<the pool's name>` by default. Cookies, credentials and
redirects are those of that origin. Only its requests go to endpoints; any other request, such as a hop to another host
or a token request of an auth flow, goes where its URL says, past the pool. An attempt is made anew from the caller's
request, so nothing that belongs to one endpoint reaches another.
"""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

import attrs

from resilio._events import log
from resilio._options.validators import reject
from resilio._policies.pool.chosen import endpoint_of, pool_of

if TYPE_CHECKING:
    from resilio._native.core import Pipeline
    from resilio._policies.pool.endpoint import Endpoint
    from resilio._policies.pool.policy import Pool
    from resilio._policy.base import Policy

__all__ = ["HOST", "Address", "Origin", "Service", "address_of", "origin_of", "service_of"]

HOST = "host"
"""Label of an endpoint with the name that its server goes by, where the target is an address."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


@attrs.frozen
class Address:
    """
    The server of an endpoint, as its target says.

    Attributes:
        scheme: "http" or "https"; None: that of the request.

        host: The host to connect to; an IPv6 address has no brackets.

        port: The port; None: the default of the scheme.

        base: The path in front of each request's, without a slash at its end; often empty.

        authorization: The `Authorization` for this endpoint alone, from the user and password in its target; or None.

        name: The name in `Host` and in TLS, if it is not the host.
    """

    scheme: str | None
    host: str
    port: int | None
    base: str = ""
    authorization: str | None = None
    name: str | None = None

    @property
    def netloc(self) -> str:
        """The host and port to connect to, as in a URL."""
        return _netloc(self.host, self.port)

    def host_header(self, scheme: str) -> str:
        """
        Return the value of `Host`.

        Args:
            scheme: The scheme of the request.
        """
        usual = self.port == _DEFAULT_PORTS[self.scheme or scheme]
        return _netloc(self.name or self.host, None if usual else self.port)

    def url(self, url: str, scheme: str) -> str:
        """
        Return the URL of a request at this endpoint.

        Args:
            url: The path and query of the request, encoded.

            scheme: The scheme of the request.
        """
        return f"{self.scheme or scheme}://{self.netloc}{self.base}{url}"


def _netloc(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def address_of(endpoint: Endpoint) -> Address:
    """
    Return where an endpoint is.

    Raises:
        ValueError: Its target is no address of an HTTP server.
    """
    name = endpoint.labels.get(HOST)
    return _address(endpoint.target, name if isinstance(name, str) else None)


@lru_cache(maxsize=1024)
def _address(target: str, name: str | None) -> Address:
    parts = urlsplit(target if "://" in target else f"//{target}")
    wrong = parts.scheme not in ("", *_DEFAULT_PORTS) or not parts.hostname or parts.query or parts.fragment
    if wrong:
        reject("target", target, "a URL or an address, like 'https://a.internal/base' or '10.0.0.7:443'")
    port = _port(parts, target)
    base = parts.path.rstrip("/")
    return Address(parts.scheme or None, parts.hostname or "", port, base, _authorization(parts), name)


def _port(parts: SplitResult, target: str) -> int | None:
    try:
        return parts.port
    except ValueError:
        return reject("target", target, "an address with a port from 1 to 65535")


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None and parts.password is None:
        return None
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(user.encode()).decode()}"


@attrs.frozen
class Origin:
    """Scheme, host and port of a URL; None: any."""

    scheme: str | None
    host: str
    port: int | None

    def has(self, scheme: str, host: str, port: int | None) -> bool:
        """Return True for the parts of a URL of this origin."""
        if host.lower() != self.host:
            return False
        if self.scheme is None:
            return True
        return scheme == self.scheme and (port or _DEFAULT_PORTS.get(scheme)) == self.port


def origin_of(value: object) -> Origin:
    """
    Return the option `origin`, checked.

    Args:
        value: A URL without a path, like "https://api.example.com".

    Raises:
        TypeError: No text.

        ValueError: No such URL.
    """
    right = "a URL without a path, like 'https://api.example.com'"
    if not isinstance(value, str):
        reject("origin", value, right, TypeError)
    parts = urlsplit(value)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        reject("origin", value, right)
    return Origin(parts.scheme, parts.hostname, _port(parts, value) or _DEFAULT_PORTS[parts.scheme])


class Service:
    """
    The pool of a client's policy, and the origins by which the client's callers name it.

    Attributes:
        pool: The pool.

        origins: Its origins.
    """

    __slots__ = ("_quiet", "origins", "pool")

    def __init__(self, pool: Pool, origins: tuple[Origin, ...]) -> None:
        """Prepare; see :func:`service_of`."""
        self.pool: Pool = pool
        self.origins: tuple[Origin, ...] = origins
        self._quiet = False

    def has(self, scheme: str, host: str, port: int | None) -> bool:
        """Return True if a request to this origin is for the pool; log one that is not, if none was before it."""
        ours = any(origin.has(scheme, host, port) for origin in self.origins)
        if not ours and not self._quiet:
            self._warn(host)
        self._quiet = True
        return ours

    def endpoint(self, *pipes: Pipeline) -> Endpoint:
        """Return the endpoint that the call of one of these pipelines has picked; any, where policies are disabled."""
        found = next((one for pipe in pipes if (one := endpoint_of(pipe)) is not None), None)
        return self.pool._any() if found is None else found

    def _warn(self, host: str) -> None:
        own = " or ".join(_shown(origin) for origin in self.origins)
        text = "pool %s serves %s; a request to %s goes there, past the pool: `origin=` names the URL of the pool"
        log.say(log.WARNING, text, self.pool.label, own, host, fields={"policy": "pool", "policy_name": self.pool.name})


def _shown(origin: Origin) -> str:
    return f"{origin.scheme or 'https'}://{_netloc(origin.host, origin.port)}"


def located(location: str, sent: str, asked: str, address: Address) -> str | None:
    """
    Return the `Location` of an endpoint's answer in terms of the pool's origin; None: as it is.

    A redirect to the endpoint itself is one to the pool, so that the client follows it with its cookies and
    credentials, to any endpoint. One to another host is the client's to follow, without them.

    Args:
        location: The header.

        sent: The URL that the endpoint was sent.

        asked: The URL of the caller's request.

        address: The endpoint's.
    """
    to, at = urlsplit(urljoin(sent, location)), urlsplit(sent)
    if not _is_of(to, at, address):
        return None
    if to.path == address.base or to.path.startswith(f"{address.base}/"):
        own = urlsplit(asked)
        host = own.netloc.rpartition("@")[2]
        return urlunsplit((own.scheme, host, to.path[len(address.base) :] or "/", to.query, to.fragment))
    return urlunsplit(to)


def _is_of(to: SplitResult, at: SplitResult, address: Address) -> bool:
    """Return True if a URL is one of the endpoint that was sent another."""
    known = (at.hostname, (address.name or "").lower() or at.hostname)
    port = _DEFAULT_PORTS.get(at.scheme)
    return to.scheme == at.scheme and to.hostname in known and (to.port or port) == (at.port or port)


def service_of(policy: Policy[Any], origin: object) -> Service | None:
    """
    Return the pool of a client's policy, and the requests that are for it; None if it has none.

    Args:
        policy: The client's policy.

        origin: The option: the URL by which callers name the pool; None: any with the pool's name as its host.

    Raises:
        TypeError: `origin` is no text.

        ValueError: No origin; one without a pool; or an endpoint that is no address of an HTTP server.
    """
    pool = pool_of(policy)
    if pool is None:
        if origin is not None:
            raise ValueError(f"origin={origin!r} is the URL of a pool, and {policy!r} has none")
        return None
    for endpoint in pool.endpoints:
        address_of(endpoint)
    given = () if origin is None else (origin_of(origin),)
    names = [pool.label, policy.label] if pool.name == f"{policy.name}.pool" else [pool.label]  # of a standard stack
    return Service(pool, (*given, *(Origin(None, name.lower(), None) for name in names)))
