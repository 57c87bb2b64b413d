"""A stub's methods in Python: calls, batches, and calls whose results stay on the owner."""
