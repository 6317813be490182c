"""Data sets: sources that check their files and hand out examples. Importing this room loads no torch."""
