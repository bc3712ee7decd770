"""
The table of patch points: after the import of which module, which public names of it are replaced, and by what.

It is the one list of what `resilio run` and `install` change in a program; each row has a test against the client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from types import ModuleType

    from resilio._adoption.hosts import Hosts

__all__ = ["CLIENTS", "POINTS", "Point"]


@attrs.frozen
class Point:
    """
    One patch point.

    Attributes:
        client: The client's name, as users give it.

        module: The module after whose import it is patched.

        names: The names that are replaced, dotted below the module.

        way: The function that does it, as "module:function" of `resilio._adoption.ways`.

        permanent: The import and the call that guard one such client in code; `{stack}` stands for its stack.
    """

    client: str
    module: str
    names: tuple[str, ...]
    way: str
    permanent: tuple[str, str]

    def wire(self, module: ModuleType, hosts: Hosts) -> None:
        """
        Patch the module.

        Args:
            module: The module, imported.
            hosts: The stacks.

        Raises:
            AttributeError: This version of the client has no such name.
        """
        where, function = self.way.split(":")
        act: Any = getattr(import_module(f"resilio._adoption.ways.{where}"), function)
        act(module, hosts)


def _of_httpx(name: str) -> Point:
    code = (
        f"import {name}\nfrom resilio.integrations.httpx import guard_client",
        f"client = guard_client({name}.AsyncClient(), {{stack}})",
    )
    return Point(name, name, ("Client.__init__", "AsyncClient.__init__"), "httpx:wire", code)


def _of_models(name: str, kind: str) -> Point:
    code = (
        f"from {name} import Async{kind}\nfrom resilio.integrations.llm.{name} import guard",
        f"client = guard(Async{kind}(), {{stack}})",
    )
    return Point(name, name, (f"{kind}.__init__", f"Async{kind}.__init__"), f"models:wire_{name}", code)


def _of_redis(name: str, module: str) -> Point:
    code = ("", "fetch = {stack}(fetch)  # your function that calls " + name)
    return Point(name, module, (f"{name.capitalize()}.execute_command",), "redis:wire", code)


POINTS: tuple[Point, ...] = (
    _of_httpx("httpx"),
    _of_httpx("httpx2"),
    Point(
        "requests",
        "requests",
        ("Session.__init__",),
        "requests:wire",
        (
            "import requests\nfrom resilio.integrations.requests import Adapter",
            'session = requests.Session()\nsession.mount("https://", Adapter({stack}))',
        ),
    ),
    Point(
        "aiohttp",
        "aiohttp",
        ("ClientSession.__init__",),
        "aiohttp:wire",
        (
            "import aiohttp\nfrom resilio.integrations.aiohttp import middleware",
            "session = aiohttp.ClientSession(middlewares=(middleware({stack}),))",
        ),
    ),
    Point(
        "grpc",
        "grpc.aio",
        ("insecure_channel", "secure_channel"),
        "grpc:wire",
        (
            "import grpc\nfrom resilio.integrations.grpc import interceptors",
            "channel = grpc.aio.insecure_channel(target, interceptors=interceptors({stack}))",
        ),
    ),
    _of_models("openai", "OpenAI"),
    _of_models("anthropic", "Anthropic"),
    _of_redis("redis", "redis.client"),
    _of_redis("redis", "redis.asyncio.client"),
    _of_redis("valkey", "valkey.client"),
    _of_redis("valkey", "valkey.asyncio.client"),
)

CLIENTS: tuple[str, ...] = tuple(dict.fromkeys(point.client for point in POINTS))
