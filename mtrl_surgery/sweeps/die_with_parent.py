"""`python -I die_with_parent.py PARENT PROGRAM [WORD ...]`: becomes the program, and is killed when its parent dies.

A Ray node that is lost takes its workers with it, but not what they started. A run that went on there would write into
the folder that the same run, started again elsewhere, writes as well; the folder's lock would then keep the second one
out. Linux can be asked for it; elsewhere the lock is all there is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int, command: list[str]) -> None:
    """Never returns."""
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit("the process that started this run is gone")  # it died before it could be asked for
    # Ray's processes block Ctrl-C, and what they start inherits that.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
