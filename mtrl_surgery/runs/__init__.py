"""The run folder: configuration, manifest, metrics, checkpoints, and how each is written and read."""
