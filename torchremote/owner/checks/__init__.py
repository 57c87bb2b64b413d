"""Refuses what scripting a user's module would drop or get wrong. Each file has one kind of fault."""
