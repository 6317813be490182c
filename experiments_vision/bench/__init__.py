"""What per-task gradients cost on this machine, in time and in memory."""
