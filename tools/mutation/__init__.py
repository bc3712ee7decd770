"""`make mutation`: small faults in policies, gates and the native core, and whether the tests notice."""
