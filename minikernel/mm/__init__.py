"""Memory management: frames, page tables, VMAs, faults."""
