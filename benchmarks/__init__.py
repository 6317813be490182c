"""Benchmarks of this project: `python -m benchmarks NAME`. Outside of the wheel."""
