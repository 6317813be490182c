"""The surgery methods: how K task gradients become one direction.

Nothing here imports torch until a method is made, so the command line can list the methods quickly.
"""
