"""Hydra groups of `python -m experiments_vision`."""
