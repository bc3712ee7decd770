"""
Money that calls spend: prices of models, limits, and what calls have cost.

`spend_limit("50 USD/day", prices=Prices.load("prices.toml"))` guards a client of models. A function of your own reports
its cost by `charge(0.02)`.
"""

from resilio._policies.spend_limit.bill import Bill, bill, charge
from resilio._policies.spend_limit.levels import Below
from resilio._policies.spend_limit.money import Budget
from resilio._policies.spend_limit.policy import SpendLimit, SpendLimitConfig, spend_limit
from resilio._policies.spend_limit.prices import Price, Prices, UnknownModelError, Usage
from resilio._policies.spend_limit.snapshot import Spend, SpendLimitSnapshot

__all__ = [
    "Below",
    "Bill",
    "Budget",
    "Price",
    "Prices",
    "Spend",
    "SpendLimit",
    "SpendLimitConfig",
    "SpendLimitSnapshot",
    "UnknownModelError",
    "Usage",
    "bill",
    "charge",
    "spend_limit",
]


def __dir__() -> list[str]:
    return sorted(__all__)
