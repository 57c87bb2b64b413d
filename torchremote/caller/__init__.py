"""The caller's side: messages, calls, stubs, creating, replicas, finding; each imports from those before it alone."""
