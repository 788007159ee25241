"""How many processors this process may use."""

import os


def usable_cores() -> int:
    """Those that the system lets it have; a container or a batch system may give fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
