"""minispike next to its peers; `python -m benchmarks --help`."""
