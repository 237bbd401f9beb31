"""Faults of the world: what is left of a compilation's outputs when it is killed, or the disk is full, and so on."""
