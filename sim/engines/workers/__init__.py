"""The engine "workers": processes that compute the silos' steps of a round ahead, to the bits of the exact one."""
