"""The live dashboard: a Dash page over run folders, that reads what is appended to them and nothing else."""
