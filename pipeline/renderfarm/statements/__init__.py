"""What persons say of an output, signed by their own keys: the inbox where it waits, the rules it is held to, the taking in."""
