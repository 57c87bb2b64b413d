"""Creating modules on owners, one or many."""
