"""Tasks: exec, signals, scheduling."""
