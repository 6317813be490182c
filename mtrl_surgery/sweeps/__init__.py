"""Sweeps: many runs of one command as Ray tasks, each a process of its own that can be lost and goes on.

`train -m` says what each of its runs takes and where it is written (`plan`), whether there is room for it (`capacity`),
and has Ray do them (`scheduler`, `attempt`). How a run stands is read from its own folder (`standing`, `view`);
`drive` is all of it in order.
"""
