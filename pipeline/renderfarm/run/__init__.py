"""One run of a job: loop, leases, budgets, stop, finish. Knows no Ray."""
