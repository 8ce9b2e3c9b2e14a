"""The virtual file system and the file systems below it."""
