"""Sweeps: many runs of one command as Ray tasks, each a process of its own that can be lost and goes on.

`train -m` expands its words into runs (`expansion`), says what each needs and where it is written (`plan`), keeps a
table of them in a folder (`folder`), and has Ray do them (`scheduler`, `attempt`). `view` and `display` show it;
`drive` is all of it in order.
"""
