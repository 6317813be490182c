"""What measures us: `python -m benchmarks NAME`. Outside of the wheel."""
