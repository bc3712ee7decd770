"""
The demo: a real service, a real outage, once bare and once guarded.

`_schedule` and `_load` fix what happens to the dependency and what is asked of the service; `server` is the dependency,
in a process of its own; `_service` is the service under test; `_run` makes one run; `_records` and `_summary` turn it
into figures; `_progress`, `_report` and `_picture` show it.
"""

from __future__ import annotations

__all__: list[str] = []
