"""One run of a job: loop, leases of units, budgets, stop, the local engine. Knows no Ray."""
