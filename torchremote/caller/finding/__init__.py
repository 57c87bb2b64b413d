"""Finding modules by name: at first, and again when their owner was lost."""
