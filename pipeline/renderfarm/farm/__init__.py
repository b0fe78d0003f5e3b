"""Ray, and nothing else: a cluster, the actors on it, and the engine that a run gets there."""
