"""The caller's side: stubs and their calls, creating and connecting, what is asked of owners, stubs on their way."""
