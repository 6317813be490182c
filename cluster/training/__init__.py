"""The training loop: rounds, checkpoints, rows, and what it asks of a learner and of a collector. Knows no Ray."""
