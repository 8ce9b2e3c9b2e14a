"""gdb's remote serial protocol, served on the debugger's engine."""
