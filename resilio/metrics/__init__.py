"""
What others see of the policies: `resilio.metrics.prometheus` and `resilio.metrics.logging`.

They read and listen; nothing of the library imports them, and each needs its extra only when it is imported.
"""
