"""The command line and what it runs: doctor, demo, the tables of types."""
