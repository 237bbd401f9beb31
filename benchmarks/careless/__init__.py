"""Rules as careless users write them, and what becomes of each: `python -m benchmarks.careless`."""
