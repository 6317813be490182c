"""Per-task gradients and what is measured on them."""
