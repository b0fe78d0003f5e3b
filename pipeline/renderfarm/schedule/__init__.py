"""Jobs in their windows: a calendar, a scheduler of child processes, and the same schedule as units for others to run."""
