"""Which minispike this is. It has a file of its own, so that a run folder can note it."""

__version__ = "0.1.0"
