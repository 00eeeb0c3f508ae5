"""Ordinary networks: modules, layers, losses and optimiser."""
