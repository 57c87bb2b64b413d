"""The first pass: a class, or canonical text, becomes the model of an interface."""
