"""The hydra configuration of `python -m experiments_vision train`."""
