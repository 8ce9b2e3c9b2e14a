"""The debugger: stop the machine anywhere, look at the program and at the kernel, go on."""
