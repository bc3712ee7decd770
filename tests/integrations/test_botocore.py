"""botocore, which has no integration of its own: its calls are functions, and its errors are understood."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from servers.misbehaving import Exchange, Misbehaving

from resilio import presets, retry
from resilio._failures import aws
from resilio._failures.retry_after import retry_after_of


@pytest.mark.once
def test_a_real_client_of_aws_is_understood(server: Misbehaving) -> None:
    """Status, headers and its own retries, of botocore against a server that throttles."""
    if importlib.util.find_spec("botocore") is None:
        pytest.skip("botocore is not installed")
    session = importlib.import_module("botocore.session").get_session()
    config = importlib.import_module("botocore.config").Config(retries={"total_max_attempts": 2, "mode": "standard"})

    async def throttle(exchange: Exchange) -> None:
        body = b'{"__type": "ThrottlingException", "message": "slow down"}'
        await exchange.answer(body, 400, {"content-type": "application/x-amz-json-1.0", "retry-after": "9"})

    server.routes["/"] = throttle
    client = session.create_client(
        "dynamodb",
        region_name="eu-central-1",
        endpoint_url=server.url,
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=config,
    )
    with pytest.raises(Exception, match="ThrottlingException") as caught:
        retry(on="http", attempts=2, backoff=0, budget=None).call(client.list_tables)
    error: Any = caught.value
    assert (presets.status_of(error), retry_after_of(error), aws.retries_of(error)) == (429, 9.0, 1)
    assert (server.total, error.resilio.stop_reason) == (2, "attempts")
    assert presets.http.part("unsent")[0](error)
