"""What runs in a worker: drawing, checking, storing, and how a process of our own is told to. Knows neither the loop nor Ray."""
