"""A local AzureML workspace, to which the unmodified `azure.ai.ml.MLClient` submits over HTTPS on loopback."""
