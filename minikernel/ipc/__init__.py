"""System V IPC: objects with keys and ids that outlive the processes that made them."""
