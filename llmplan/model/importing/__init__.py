"""From what a publisher ships to a spec: ``config.json`` of known architectures.

A reader per family says how its keys map to blocks. Every key must be read, or stand in the table
of keys that change no size; anything else is refused, so that nothing is guessed.
"""
