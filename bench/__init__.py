"""fl-kit against the plain torch loop, the least that the same mathematics can cost; `python -m bench`."""
