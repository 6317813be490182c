"""Soft actor-critic agents for many tasks at once."""
