"""What a federation was worth, and to whom: computed after or around simulated runs. Nothing here travels."""
