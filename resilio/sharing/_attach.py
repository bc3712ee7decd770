"""The hooks by which policies are shared: the core and the policies know these by name only."""

from __future__ import annotations

from typing import Any

from resilio._options.scope import group_here, is_shared, wanted
from resilio.sharing import _report
from resilio.sharing._host import Host
from resilio.sharing._links import KeyedLink, Link, shareable
from resilio.sharing._make import host

__all__ = ["share", "share_keys"]


def share(policy: Any, config: Any) -> None:
    """
    Tie a policy to the scope of its options, or untie it; without effect if nothing has changed.

    Args:
        policy: The policy; its attribute `_link` is its tie, its method `_sharing_gate` returns the object to share.

        config: Its options.

    Raises:
        ValueError: The options ask for a wider scope, and the policy has no name.
    """
    if isinstance(policy._link, KeyedLink):  # of a key: its keyed policy has the scope
        return
    if is_shared(policy.kind, policy._given, config):
        if not hasattr(policy._sharing_gate(), "share"):
            _reject(policy.kind, config)
        _tie(policy, config, Link)
    else:
        _untie(policy, config)


def share_keys(policy: Any, config: Any) -> None:
    """
    Tie the policies of all keys of a keyed policy to the scope of its options, or untie them.

    Raises:
        ValueError: The options ask for a wider scope, and the policy has no name.

        TypeError: Nothing of what the factory makes can be shared.
    """
    if is_shared(policy.kind, policy._given, config):
        if next(shareable(policy.overflow), None) is None:
            if config.scope is not None:
                _reject(f"keyed {policy.overflow.kind}", config)
            return
        _tie(policy, config, KeyedLink)
    elif isinstance(policy._link, KeyedLink):
        link = policy._link
        _untie(policy, config)
        link.take_back(policy)


def _tie(policy: Any, config: Any, kind: type[Link]) -> None:
    scope = wanted(config.scope)
    to = scope if isinstance(scope, Host) else (group_here.get() or host)()
    before: Link | None = policy._link
    if before is not None and before.host is to and before.is_settled(policy):
        return
    if before is not None and before.host is not to:
        before.host.untie(policy, before)
    policy._link = link = kind(to)
    to.tie(policy, link)


def _untie(policy: Any, config: Any) -> None:
    before: Link | None = policy._link
    policy._link = None
    if before is not None:
        before.host.untie(policy, before)
    elif config.scope is None and policy._given is None:
        _report.unnamed(policy.kind)


def _reject(kind: str, config: Any) -> None:
    raise TypeError(f"scope must be 'process' for a {kind}, which cannot be shared, not {wanted(config.scope)!r}")
