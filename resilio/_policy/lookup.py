"""The policy of a function that is guarded."""

from __future__ import annotations

from typing import Any, cast

from resilio._policy.base import Policy
from resilio._policy.decorate import find_guard

__all__ = ["policy_of"]


def policy_of(fn: Any) -> Policy[Any]:
    """
    Return the policy that guards `fn`; for a stack of decorators the pipeline that they became.

    Args:
        fn: A guarded function, method, static or class method, partial or a wrapper around one (`__wrapped__`).

    Raises:
        TypeError: `fn` is not guarded.
    """
    guard = find_guard(fn)
    if guard is None:
        raise TypeError(f"{fn!r} is not guarded by a policy")
    return cast("Policy[Any]", guard.pipeline)
