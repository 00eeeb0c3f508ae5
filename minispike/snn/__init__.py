"""Spiking networks: neurons, surrogate gradients, spiking attention."""
