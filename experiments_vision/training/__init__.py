"""Training and judging one network on one data set."""
