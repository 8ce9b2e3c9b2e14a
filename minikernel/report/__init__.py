"""What people read: crash reports, statistics, strace text."""
