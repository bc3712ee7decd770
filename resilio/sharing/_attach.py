"""The hooks by which policies are shared: the core and the policies know these by name only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilio._options.scope import HOST, group_here, is_shared, wanted
from resilio._support.show import with_article
from resilio.sharing import _report
from resilio.sharing._host import Host
from resilio.sharing._links import KeyedLink, KeyLink, Link, shareable
from resilio.sharing._make import host

__all__ = ["share", "share_keys"]

_NOT_OF_FLEETS = {
    "adaptive_limit": (
        "its law learns from the latency of each call, of which a store hears late; use scope='host', or a bulkhead of "
        "the fleet"
    ),
    "bulkhead": (
        "the slots of a key would lie on lease for seconds at processes without calls of it; use scope='host', or a "
        "keyed rate_limit of the fleet"
    ),
    "spend_limit": "money that comes in evenly is not counted by a store; leave burst out, or use scope='host'",
}
"""Why a fleet does not share a policy of this kind, or not by key, and what to use."""


def share(policy: Any, config: Any) -> None:
    """
    Tie a policy to the scope of its options, or untie it; without effect if nothing has changed.

    Args:
        policy: The policy; its attribute `_link` is its tie, its method `_sharing_gate` returns the object to share.

        config: Its options.

    Raises:
        ValueError: The options ask for a wider scope, and the policy has no name.

        TypeError: They ask for one that its kind does not have.
    """
    if isinstance(policy._link, KeyLink):  # of a key: its keyed policy has the scope
        return
    if is_shared(policy.kind, policy._given, config):
        scope = _scope(config)
        if not hasattr(policy._sharing_gate(), "share" if isinstance(scope, Host) else "share_fleet"):
            _reject(policy.kind, config, _NOT_OF_FLEETS.get(policy.kind))
        _tie(policy, scope, scope.link)
    else:
        _untie(policy, config)


def share_keys(policy: Any, config: Any) -> None:
    """
    Tie the policies of all keys of a keyed policy to the scope of its options, or untie them.

    Raises:
        ValueError: The options ask for a wider scope, and the policy has no name.

        TypeError: Nothing of what the factory makes can be shared in this scope.
    """
    if is_shared(policy.kind, policy._given, config):
        if next(shareable(policy.overflow, in_code=config.scope is not None), None) is None:
            if config.scope is not None:
                _reject(f"keyed {policy.overflow.kind}", config)
            return
        scope = _scope(config)
        apart = scope.not_shared_by_key(policy)
        if apart is not None:
            _reject(f"keyed {apart}", config, _NOT_OF_FLEETS.get(apart, "use scope='host'"))
        _tie(policy, scope, scope.keyed_link)
    elif isinstance(policy._link, KeyedLink):
        link = policy._link
        _untie(policy, config)
        link.take_back(policy)


def _scope(config: Any) -> Any:
    """Return the host or the fleet that the options ask for."""
    scope = wanted(config.scope)
    return (group_here.get() or host)() if scope == HOST else scope


def _tie(policy: Any, scope: Any, make: Callable[[], Link]) -> None:
    before: Link | None = policy._link
    if before is not None and before.is_of(scope):
        if not before.is_settled(policy):
            before.host.tie(policy, before)
        return
    policy._link = None
    if before is not None:
        before.host.untie(policy, before)
    policy._link = link = make()
    link.host.tie(policy, link)


def _untie(policy: Any, config: Any) -> None:
    before: Link | None = policy._link
    policy._link = None
    if before is not None:
        before.host.untie(policy, before)
    elif config.scope is None and policy._given is None:
        _report.unnamed(policy.kind)


def _reject(kind: str, config: Any, why: str | None = None) -> None:
    scope = wanted(config.scope)
    right = "'process'" if why is None else "'process' or 'host'"
    raise TypeError(
        f"scope must be {right} for {with_article(kind)}, not {scope!r}: {why or 'it has nothing to share'}"
    )
