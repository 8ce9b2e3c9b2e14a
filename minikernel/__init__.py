"""The kernel: memory, files, tasks and system calls of a small Linux on the emulated machine."""

__version__ = "0.1.0"
