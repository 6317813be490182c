"""The networks of the supervised benchmarks; `registry.make_model` makes one by name."""
