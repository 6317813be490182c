"""Several learners' processes on this machine, for benchmarks that need no Ray."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mtrl_surgery.jacobian.sharding import Sharded

AnswerT = TypeVar("AnswerT")


def together(work: Callable[[Sharded, Any], AnswerT], learners: int, arguments: Any) -> AnswerT:
    """Calls a function in N processes that gloo joins over the loopback interface, one thread each.

    Args:
        work: Called with what joins the processes, and the arguments; it and its answer are pickled.
        learners: N, at least 1.
        arguments: For all of them.

    Returns:
        The first process's answer.

    Raises:
        RuntimeError: a process failed; its traceback is on stderr.
    """
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_join, args=(work, rank, learners, arguments, folder, answers))
            for rank in range(learners)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        codes = [process.exitcode for process in processes]
        if any(codes):
            raise RuntimeError(f"of {learners} learners' processes some failed: exit codes {codes}")
        answer: AnswerT = answers.get()
    return answer


def _join(work: Any, rank: int, learners: int, arguments: Any, folder: str, answers: Any) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # nothing listens beyond this machine
    import torch
    import torch.distributed as dist

    from mtrl_surgery.jacobian.sharding import Sharded

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=learners)
    assert dist.group.WORLD is not None
    answer = work(Sharded(dist.group.WORLD), arguments)
    if rank == 0:
        answers.put(answer)
    dist.barrier()
    dist.destroy_process_group()
