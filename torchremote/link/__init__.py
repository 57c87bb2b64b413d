"""Between caller and owner, for both: routes, places, values as they cross, failures, protocols."""
