"""The guide to several model providers: it runs as it stands, against three providers on loopback."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from docs.pages import snippets_of
from servers.misbehaving import Misbehaving
from servers.models import Anthropic, Behaviour, OpenAI, answers, fails, provide

from resilio import registry

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "model-providers.md"
NAMES = ("eu", "us", "claude")
pytestmark = pytest.mark.anyio


@pytest.fixture
def providers(monkeypatch: pytest.MonkeyPatch, anyio_backend_name: str) -> Iterator[dict[str, Misbehaving]]:
    """Three servers, where the environment says that the providers are."""
    anthropic = pytest.importorskip("anthropic")
    pytest.importorskip("openai")
    if anyio_backend_name == "trio" and not hasattr(anthropic._utils._sync, "anyio"):
        pytest.skip("this anthropic runs on asyncio only")
    registry.clear()  # the page's names are those of the last run of it
    with ExitStack() as stack:
        servers = {name: stack.enter_context(Misbehaving()) for name in NAMES}
        monkeypatch.setenv("AZURE_EU_URL", f"{servers['eu'].url}/v1")
        monkeypatch.setenv("AZURE_US_URL", f"{servers['us'].url}/v1")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", servers["claude"].url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
        yield servers
    registry.clear()


def script(providers: dict[str, Misbehaving], **behaviours: Behaviour) -> None:
    """Let each provider behave in its way; the others answer."""
    for name, server in providers.items():
        provide(
            server,
            Anthropic() if name == "claude" else OpenAI(),
            behaviours.get(name, answers("hello", tokens=(300, 200))),
        )


async def run_page(*, last: str = "") -> dict[str, Any]:
    """Run the snippets, up to the one that contains `last`."""
    page: dict[str, Any] = {"__name__": "__main__"}
    for snippet in snippets_of(PAGE.read_text(encoding="utf-8")):
        if last and last in snippet.code:
            break
        code = compile("\n" * snippet.line + snippet.code, PAGE.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = types.FunctionType(code, page)()
        if inspect.iscoroutine(running):
            await running
    return page


async def close(page: dict[str, Any]) -> None:
    for name in NAMES:
        await page[name].close()


async def test_the_page_runs(providers: dict[str, Misbehaving], capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands: the deployments answer, and where they are drained the budget ends the other provider's answers."""
    script(providers)
    page = await run_page()
    await close(page)
    answered = page["answered"]
    assert 3 <= answered == providers["claude"].total
    assert f"{answered} answers" in capsys.readouterr().out


async def test_a_deployment_that_fails_is_left_for_another(providers: dict[str, Misbehaving]) -> None:
    """A deployment that answers 503 is tried again there, then the other one answers; its breaker ends the attempts."""
    script(providers, eu=fails(503))
    page = await run_page(last="RateLimitedError")
    for _ in range(20):
        assert await page["ask"]("Say hello.") == "hello"
    await close(page)
    assert providers["us"].total + providers["claude"].total == 21
    assert providers["eu"].total <= 9


async def test_both_deployments_gone_leave_the_dear_provider(providers: dict[str, Misbehaving]) -> None:
    """No deployment answers: the next level does, and its answers are paid from its budget."""
    script(providers, eu=fails(503), us=fails(503))
    page = await run_page(last="RateLimitedError")  # the snippet with the function asks once
    (dear,) = (endpoint for endpoint in page["models"].endpoints if endpoint.name == "anthropic")
    await close(page)
    assert providers["claude"].total == 1
    assert dear["budget"].snapshot().spend.charged == pytest.approx((300 * 1 + 200 * 5) / 1e6, abs=1e-9)
