"""DWARF: call frames, lines, types and variables, read from the bytes of a file's sections.

Decoded here rather than by a library because the files are the guest's: every loop is bounded by the bytes there are,
and only what is asked for is decoded.  Whatever is wrong with a file is a ``DamagedError``.
"""
