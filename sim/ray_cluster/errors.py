"""Errors of a cluster."""

from fl_kit.errors import FlKitError


class ClusterError(FlKitError):
    """A cluster cannot be reached, or lacks what a silo's steps ask for; says which, and what there is."""
