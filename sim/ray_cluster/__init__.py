"""A simulation past one machine: silos' steps as tasks of a Ray cluster. Ray itself is imported when a run begins."""
