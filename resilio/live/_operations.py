"""Operations from the page: each calls one method of a policy and writes a line to the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio._events import log
from resilio._options.validators import show
from resilio._support.show import with_article
from resilio.live._details import editable
from resilio.live._http import Rejected
from resilio.live._rows import OPERATIONS, operations_of

if TYPE_CHECKING:
    from resilio._policy.base import Policy
    from resilio.live._sampler import Sampler

__all__ = ["operate"]

_MOST_OPTIONS = 50


def operate(sampler: Sampler, boot: str, asked: Any, who: str) -> dict[str, Any]:
    """
    Carry out an operation, log it, and return the result.

    Args:
        sampler: Finds policies by their ids.

        boot: Identifies this process; in another process the same id names another policy.

        asked: `{"boot": ..., "id": ..., "do": one of OPERATIONS, "options": {...}}`, options for reconfigure only.

        who: Address of the client, for the log.

    Raises:
        Rejected: The request is invalid, or the policy's method raised TypeError or ValueError.
    """
    policy, name, options = _understood(sampler, boot, asked)
    before = policy._state()
    try:
        policy.reconfigure(**options) if name == "reconfigure" else getattr(policy, name)()
    except (TypeError, ValueError) as error:
        raise Rejected(422, str(error)) from None
    what = ", ".join(f"{option}={show(value)}" for option, value in options.items())
    where = log.describe(policy.kind, policy.name)
    fields = {"policy": policy.kind, "policy_name": policy.name}
    log.say(log.WARNING, "%s: %s by an operator at %s", where, f"{name}({what})", who, fields=fields)
    sampler.journal.add("operation", policy, do=name, options=what, by=who)
    return {"done": name, "kind": policy.kind, "name": policy.name, "before": before, "state": policy._state()}


def _understood(sampler: Sampler, boot: str, asked: Any) -> tuple[Policy[Any], str, dict[str, Any]]:
    if not isinstance(asked, dict) or asked.keys() - {"boot", "id", "do", "options"}:
        raise Rejected(400, "send an object with boot, id, do and, for reconfigure, options")
    if asked.get("boot") != boot:
        raise Rejected(409, "the process has changed: load the page again")
    ident, name = asked.get("id"), asked.get("do")
    policy = sampler.find(ident) if isinstance(ident, int) else None
    if policy is None:
        raise Rejected(404, f"there is no policy {show(ident)}")
    if name not in OPERATIONS or name not in operations_of(policy):
        raise Rejected(
            422, f"{with_article(policy.kind)} cannot do {show(name)}; it can: {', '.join(operations_of(policy))}"
        )
    return policy, name, _options(policy, name, asked.get("options"))


def _options(policy: Policy[Any], name: str, options: Any) -> dict[str, Any]:
    if name != "reconfigure":
        if options:
            raise Rejected(400, f"{name} takes no options")
        return {}
    if not isinstance(options, dict) or not 1 <= len(options) <= _MOST_OPTIONS:
        raise Rejected(400, "reconfigure takes options: an object of option to value")
    for option, value in options.items():
        if not editable(option, value) or not editable(option, getattr(policy.config, option, None)):
            raise Rejected(422, f"option {show(option)} cannot be changed from here")
    return options
