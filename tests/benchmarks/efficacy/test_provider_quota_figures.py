"""Quotas per minute: fewer minutes than `python -m benchmarks.efficacy.provider_quota`, the same figures."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python

MINUTES = 500


@pytest.fixture(scope="module")
def provider_quota(efficacy):
    """The simulation."""
    return efficacy("provider_quota")


@pytest.mark.parametrize("quota", [10, 60])
def test_no_provider_rejects_what_the_default_lets_pass(provider_quota, quota):
    """However it counts. A full token bucket is rejected every fourth request; one call at a time wastes the quota."""
    default, single, full = (provider_quota.simulate(client, quota, MINUTES) for client in provider_quota.CLIENTS)
    assert set(default[1].values()) == {0}
    assert default[0] > 2 * single[0]
    assert full[1]["sliding window"] > full[0] / 5
    assert full[1]["fixed window"] > full[0] / 20
    assert full[1]["token bucket"] == 0
