"""
The demo: real services and real trouble, once bare and once guarded.

`_acts`, `_schedule` and `_load` fix what happens to the dependencies and what is asked of the services; `server` is the
dependencies, in a process of their own; `_service` has the services under test; `_run` makes one run; `_records` and
`_summary` turn it into figures; `_progress`, `_report` and `_picture` show it.
"""

from __future__ import annotations

__all__: list[str] = []
