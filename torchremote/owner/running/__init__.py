"""Runs the calls of hosted modules: how they run, in which order, where calls find them, and how often they ran."""
