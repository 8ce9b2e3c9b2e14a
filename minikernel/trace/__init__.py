"""A run as a file: recorded, shown, compared, run again (docs/trace-format.md)."""
