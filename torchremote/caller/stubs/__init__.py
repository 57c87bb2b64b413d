"""Stubs, but for their calls: as modules, at their owners, shown, saved and sent."""
