"""Collecting experience (in this process or on Ray workers) and driving a training run.

Importing this package imports neither Ray nor torch: `cluster.config` serves the command line's help.
"""
