"""The system call tables, argument decoding and thin handlers."""
