"""Task suites, deterministic episode streams, chunk rollout and evaluation."""
