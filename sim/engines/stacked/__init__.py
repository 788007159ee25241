"""The stacked engine: many small silos as one tensor program."""
