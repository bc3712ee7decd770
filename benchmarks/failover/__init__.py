"""
Sixteen ways in which a provider of models misbehaves, and what a caller gets: `python -m benchmarks.failover`.

The scenarios are those of Failover Bench (github.com/failoverbench/failoverbench, catalogue 0.1, September 2026), built
anew from its catalogue and its method; the code and the words are ours.
"""
