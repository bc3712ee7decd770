"""
Exporters for policies: Prometheus, several worker processes, OpenTelemetry, and logging.

They read counters and listen to events. No other part of the library imports them, and each needs its extra only when
it is imported.
"""
