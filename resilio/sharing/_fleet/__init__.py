"""
Policies that several hosts have together, through a store: Valkey, Redis, or Postgres.

    everywhere = fleet("shop", valkey.Valkey.from_url(url))
    orders = rate_limit("3500/min", name="orders", scope=everywhere)

One thread of a process, its courier, exchanges with the store for all policies: it reports what was seen here, and
brings leases and verdicts back. Calls go by what is here; a burst beyond it waits for one trip, and no call fails
because the store is away. No client is known here: an engine does the exchange, over a client or in memory.

The parts:

- ask.py: asks and answers.
- rules: the store's part, in Python and in Lua. engines: where they run.
- tie.py: the courier's view of a policy. courier.py: the times of its trips. thread.py: the thread that makes them.
- fleet.py, links.py, make.py: the scope, and how policies are tied to it.
"""
