"""The hooks by which policies are shared: the core and the policies know these by name only."""

from __future__ import annotations

from typing import Any

from resilio._options.scope import is_shared, wanted
from resilio.sharing import _report
from resilio.sharing._host import Host, Link
from resilio.sharing._make import host

__all__ = ["share"]


def share(policy: Any, gate: Any, config: Any) -> None:
    """
    Tie a policy to the scope of its options, or untie it; without effect if nothing has changed.

    Args:
        policy: The policy; its attribute `_link` is its tie.

        gate: What has the methods `cell_wanted` and `share`.

        config: Its options.

    Raises:
        ValueError: The options ask for a wider scope, and the policy has no name.
    """
    before: Link | None = policy._link
    if not is_shared(policy.kind, policy._given, config):
        if config.scope is None and policy._given is None:
            _report.unnamed(policy.kind)
        if before is not None:
            policy._link = None
            before.host.untie(policy, gate)
        return
    if not hasattr(gate, "share"):
        raise TypeError(f"scope must be 'process' for a {policy.kind}, which cannot be shared, not {config.scope!r}")
    to = _host_of(wanted(config.scope))
    if before is None or before.host is not to or before.wanted != gate.cell_wanted():
        if before is not None and before.host is not to:
            before.host.untie(policy, gate)
        policy._link = to.tie(policy, gate)


def _host_of(scope: Any) -> Host:
    return scope if isinstance(scope, Host) else host()
