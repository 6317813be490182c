"""Losses to train by and metrics to judge by, a file a kind of benchmark."""
