"""How messages of a caller are sent, and how it waits for their answers."""
