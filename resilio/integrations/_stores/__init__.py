"""Engines of fleets over clients: `resilio.sharing.fleet` finds them by the package that a client is from."""

from __future__ import annotations
