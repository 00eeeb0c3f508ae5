"""One training loop for every phase: loop, schedule, journal, progress."""
