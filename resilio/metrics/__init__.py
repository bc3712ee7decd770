"""
What others see of the policies: Prometheus, worker processes as one, OpenTelemetry, and where lines are logged.

They read and listen; nothing of the library imports them, and each needs its extra only when it is imported.
"""
