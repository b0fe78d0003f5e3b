"""A person's word on an attempt (`review`), recorded scores by other thresholds (`recheck`), a picture rendered again (`reproduce`)."""
