"""The two-parameter problems that multi-task papers draw: trajectories from several starts, on one surface."""
