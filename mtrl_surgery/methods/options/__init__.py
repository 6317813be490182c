"""Every method's options and its entry in the registry; importing them does not import torch."""
