"""K x K problems, solved with NumPy on the host and with Torch on a device that nobody may look at."""
