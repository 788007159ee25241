"""Ids of runs, alike in every backend."""

import re
import secrets
import time


def new_id(task: str) -> str:
    """A run id that sorts by time and never repeats: `20261124-071502-heart-3f9a1c07b2`."""
    readable = re.sub(r"[^A-Za-z0-9-]+", "-", task)[:32].strip("-") or "run"
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{readable}-{secrets.token_hex(5)}"
