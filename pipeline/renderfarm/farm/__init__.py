"""The farm: one loop over leased units, and Ray actors that render, check and store them."""
