"""What the commands of ``minispike`` do; each module is imported when its command is run."""
