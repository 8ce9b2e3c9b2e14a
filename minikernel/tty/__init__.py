"""Terminals: the line discipline, pseudo terminals, sessions and their controlling terminal."""
