"""
`resilio doctor`: facts of the installation, and a self-test of each protection.

The self-test runs every protection in real time in a process of its own, on each installed event loop and in threads. A
check that never ends is detected from outside of that process, without the library's timers. The time until a
protection fires does not matter, so a busy machine passes.
"""

from __future__ import annotations
