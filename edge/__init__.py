"""What every node has: clock, errors, journal, signed commands, identity, health, serial port, the local socket."""
