"""Engines: what computes the silos' steps of a round in one process or in several. The exact one defines the bits."""
