"""Numbers that papers printed, with the protocol that each was measured by: data files and their reader."""
