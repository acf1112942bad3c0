"""Wiring: one file per process, the demo, and the ``lastmile`` command. The only package that knows every other."""
