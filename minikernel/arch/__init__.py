"""What Linux keeps in arch/x86: segments, the way into user mode, registers as user space knows them."""
