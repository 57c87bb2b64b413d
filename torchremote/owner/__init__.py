"""The owner's side: the modules that a worker hosts, their names, tables and leases, and what callers ask for."""
