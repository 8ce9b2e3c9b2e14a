"""/proc: the kernel's state as text files."""
