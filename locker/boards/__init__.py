"""Codecs of lock boards: bytes in, events out, no I/O."""
