"""Sockets: AF_UNIX, and TCP, UDP and netlink on the machine's own loopback, never the host's."""
