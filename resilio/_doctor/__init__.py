"""
`resilio doctor`: what is installed here, and whether each protection really fires.

A self-test runs every protection on real time in a process of its own, on each event loop that is found and in threads.
What never ends is noticed from outside of that process, by no timer of the library. It asks whether something fired,
never how soon: a busy machine passes.
"""

from __future__ import annotations
