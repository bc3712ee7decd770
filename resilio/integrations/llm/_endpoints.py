"""
The SDK clients of a pool's endpoints: each attempt is made by the client in the `use` of the endpoint it has picked.

The guarded client is what the caller's code knows. An attempt takes from its request the path, the body and the
caller's own headers; address, credentials, version and time limits are those of the endpoint's client. The label
`model` of an endpoint is its name of the model.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from resilio._options.validators import reject
from resilio._policies.pool.endpoint import model_at
from resilio._support.show import show
from resilio.integrations._shared.client_parts import require_inside
from resilio.integrations._shared.connecting import time_connects
from resilio.integrations.llm._details import rejection_of

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint
    from resilio._policies.pool.policy import Pool
    from resilio.integrations.llm._exchange import Exchange
    from resilio.integrations.llm._guard_state import GuardState

__all__ = ["Providers"]

MODEL = "model"
"""The member of a request that names the model."""
_RAW = "X-Stainless-Raw-Response"
_OWN = frozenset(
    {"accept-encoding", "api-key", "authorization", "connection", "content-length", "cookie", "host", "x-api-key"}
)
"""Headers that belong to one client and its connection."""
_COUNTED = "x-stainless-"
_MOST_CLIENTS = 256


class Providers:
    """The clients of a pool's endpoints, without the SDK's own retries."""

    def __init__(self, guard: GuardState, pool: Pool) -> None:
        """
        Check the clients of the endpoints there are.

        Args:
            guard: The guard of the caller's client.

            pool: The pool.

        Raises:
            TypeError: An endpoint without a client of the same kind.
        """
        self.pool: Pool = pool
        self._guard = guard
        self._clients: dict[Endpoint, Any] = {}
        for endpoint in pool.endpoints:
            self.of(endpoint)

    def of(self, endpoint: Endpoint) -> Any:
        """Return the client of an endpoint."""
        found = self._clients.get(endpoint)
        return self._prepared(endpoint) if found is None else found

    def _prepared(self, endpoint: Endpoint) -> Any:
        guard, client = self._guard, endpoint.use
        kinds = (guard.sdk.OpenAI, guard.sdk.AsyncOpenAI) if hasattr(guard.sdk, "OpenAI") else ()
        kinds = kinds or (guard.sdk.Anthropic, guard.sdk.AsyncAnthropic)
        kind = kinds[1] if guard.is_async else kinds[0]
        if not isinstance(client, kind):
            reject(
                f"use of endpoint {show(endpoint.name)}",
                client,
                f"a client of this provider: {kind.__name__}(...)",
                TypeError,
            )
        require_inside(client, "_client", instead="`pool.acall`, whose function uses `endpoint.use`")
        http = client._client
        if not isinstance(http, guard.http.AsyncClient if guard.is_async else guard.http.Client):
            name = guard.http.__name__
            reject(
                f"use of endpoint {show(endpoint.name)}",
                http,
                f"a client over {name}, as the guarded one is",
                TypeError,
            )
        for transport in (getattr(http, "_transport", None), *getattr(http, "_mounts", {}).values()):
            time_connects(transport)
        if len(self._clients) >= _MOST_CLIENTS:
            self._clients.clear()
        return self._clients.setdefault(endpoint, client.with_options(max_retries=0))

    async def send(self, exchange: Exchange, endpoint: Endpoint | None) -> Any:
        """
        Send an attempt by an endpoint's client, and return the response with its body unread.

        Args:
            exchange: The call.

            endpoint: The endpoint; None: any, because policies are disabled.
        """
        exchange.begin()
        ask, path, options = self._asked(exchange, endpoint or self.pool._any())
        try:
            return await ask(path, **options)
        except self._guard.sdk.APIError as error:
            return _meant(exchange, error)

    def send_sync(self, exchange: Exchange, endpoint: Endpoint | None) -> Any:
        """Send an attempt that has begun by an endpoint's client; see :meth:`send`."""
        ask, path, options = self._asked(exchange, endpoint or self.pool._any())
        try:
            return ask(path, **options)
        except self._guard.sdk.APIError as error:
            return _meant(exchange, error)

    def _asked(self, exchange: Exchange, endpoint: Endpoint) -> tuple[Any, str, dict[str, Any]]:
        """Return the method of the endpoint's client to call, and its arguments."""
        request, guard = exchange.request, self._guard
        options: dict[str, Any] = {"headers": {**_headers_of(request, guard.client), _RAW: "stream"}}
        params = dict(request.url.params)
        if params:
            options["params"] = params
        timeout = request.extensions.get("timeout")
        if timeout is not None and timeout != _usual_timeout(guard):
            options["timeout"] = guard.http.Timeout(**timeout)
        made = {"cast_to": guard.http.Response, "options": options}
        if request.method != "GET":
            made["body"] = _body_of(request, endpoint)
        return getattr(self.of(endpoint), request.method.lower()), _path_of(request, guard.client), made


def _meant(exchange: Exchange, error: Any) -> Any:
    """Return the response of a status error; raise any other error of the endpoint's client as the attempt's."""
    rejection = rejection_of(error)
    if rejection is not None:  # by a policy of the endpoint's own client
        raise rejection from error
    if isinstance(error, exchange.guard.sdk.APIStatusError):
        return error.response
    if isinstance(error.__cause__, exchange.guard.http.HTTPError):
        exchange.fail(error.__cause__)
    raise error


def _usual_timeout(guard: GuardState) -> Any:
    usual = guard.client.timeout
    return guard.http.Timeout(usual).as_dict() if usual is None or isinstance(usual, (int, float)) else usual.as_dict()


def _path_of(request: Any, client: Any) -> str:
    """Return the path of a request below the base URL of its client."""
    path: str = request.url.raw_path.partition(b"?")[0].decode("ascii")
    return "/" + path.removeprefix(client.base_url.raw_path.decode("ascii")).lstrip("/")


def _headers_of(request: Any, client: Any) -> dict[str, str]:
    """Return the headers that the caller has given for this request alone."""
    usual = {name.lower(): value for name, value in client.default_headers.items()}
    auth = {name.lower() for name in client.auth_headers}
    return {
        name: value
        for name, value in request.headers.items()
        if name not in _OWN and name not in auth and usual.get(name) != value and not name.startswith(_COUNTED)
    }


def _body_of(request: Any, endpoint: Endpoint) -> Any:
    """Return the body for an endpoint: JSON with its name of the model, any other as it is."""
    content = request.content
    if not content.startswith(b"{"):
        return content or None
    body = json.loads(content)
    asked = body.get(MODEL)
    if isinstance(asked, str):
        body[MODEL] = model_at(endpoint, asked)
    return body
