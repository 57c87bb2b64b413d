"""What a stub is and does beside its calls: as a module, at its owner, shown, saved and sent."""
