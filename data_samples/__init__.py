"""Sample data sets: a folder each, with manifest.json, data.csv, the script that made it, and its licence.

Nothing to import here: `sim.samples` reads them.
"""
