"""The surgery methods: how K task gradients become one direction. One file a method; `registry.py` has them all."""
