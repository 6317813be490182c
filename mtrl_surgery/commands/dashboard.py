"""A live page over runs: how they stand, curves, conflicts, health; what is appended to them appears.

usage: mtrl-surgery dashboard RUNS [RUNS ...] [KEY=VALUE ...]

RUNS   folders, with run folders at any depth below them; more may come and go while the page is open

{keys}

The page has an address for each view, with its filters and groups. Runs are only read, and nothing outside of the
folders is: a link that leads out of them is not followed. Ctrl-C stops it; it starts and changes no run.
Where supervised runs are among them, use python -m experiments_vision dashboard.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.words import split_paths
from mtrl_surgery.shell import install

if TYPE_CHECKING:
    from mtrl_surgery.reports.benchmarks import ScoringOf


@dataclass
class Arguments:
    """Options of `dashboard`."""

    host: Annotated[
        str, "on which address to listen; another one than this machine's own lets other machines read the runs"
    ] = "127.0.0.1"
    port: Annotated[int, "on which port; 0 takes a free one"] = 8050
    every: Annotated[float, "seconds between updates"] = 5.0
    open: Annotated[bool, "true opens a browser"] = False


def main(words: Sequence[str]) -> int:
    """Serve the page until Ctrl-C."""
    return serve_page(words, __doc__ or "")


def serve_page(words: Sequence[str], description: str, scoring_of: ScoringOf | None = None) -> int:
    """The command, with its help; `scoring_of` has the metrics of supervised runs, None leaves such runs out."""
    if not words or wants_help(words):
        print(usage(description, Arguments))
        return 0
    places, rest = split_paths(words, Arguments)
    arguments = parse(rest, Arguments)
    if not 0 <= arguments.port < 65536:
        raise SettingsError(f"port={arguments.port}: must be 0 to 65535")
    if not arguments.every >= 0.2:
        raise SettingsError(f"every={arguments.every}: must be at least 0.2 seconds")
    from mtrl_surgery.dashboard.following import Follower
    from mtrl_surgery.dashboard.roots import Roots
    from mtrl_surgery.dashboard.serving import address_of, listen, serve

    roots = Roots(places)
    try:
        from mtrl_surgery.dashboard.app import make_app
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("dash", "plotly", "flask"):
            raise
        raise SettingsError(
            f"the dashboard needs {error.name}, which is not installed: {install('dashboard')}"
        ) from error

    listening = listen(arguments.host, arguments.port)
    follower = Follower(roots, scoring_of, arguments.every)
    shown, local = address_of(listening)
    app = make_app(follower, host=shown if local else None)
    port = listening.getsockname()[1]
    if not local:
        print(
            f"warning: host={arguments.host}: whoever reaches port {port} of this machine can read the runs below "
            f"{roots}; there is no password",
            file=sys.stderr,
        )
    # A shell that starts a job in the background has it ignore Ctrl-C, and SIGTERM would leave without a word.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):  # of before the server has begun
            print(f"{roots}: http://{shown}:{port}/ (Ctrl-C stops)", flush=True)
            follower.start()
            if arguments.open:
                webbrowser.open(f"http://{shown}:{port}/")
            serve(app.server, listening)
    finally:
        follower.stop()
    print("stopped")
    return 0
