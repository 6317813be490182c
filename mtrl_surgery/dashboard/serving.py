"""The server: threads of this process, on an address that was asked for."""

from __future__ import annotations

import errno
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from mtrl_surgery.reports.records import ReportError


def listen(host: str, port: int) -> socket.socket:
    """A socket that is listened on; `port` 0 takes a free one.

    Raises:
        ReportError: The port is taken, or the host is none of this machine's.
    """
    if not host:
        raise ReportError("host= is empty: name an address, such as 127.0.0.1")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(64)
    except (OSError, UnicodeError) as error:
        if isinstance(error, UnicodeError):
            raise ReportError(f"host={host}: this is no name of a machine") from error
        if error.errno == errno.EADDRINUSE:
            raise ReportError(f"port={port}: already in use on {host}; name another, or port=0 for any") from error
        if error.errno == errno.EACCES:
            raise ReportError(f"port={port}: this user may not listen on it; name one above 1023") from error
        raise ReportError(f"host={host}: cannot listen there: {error.strerror or error}") from error
    return found


def address_of(listening: socket.socket) -> tuple[str, bool]:
    """The host that a browser on this machine names in the address, and whether only this machine reaches it."""
    found = ipaddress.ip_address(str(listening.getsockname()[0]).partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found
    loopback = found.is_loopback
    if found.is_unspecified:  # every address of this machine; a browser needs one of them
        found = ipaddress.ip_address("::1" if found.version == 6 else "127.0.0.1")
    return f"[{found}]" if found.version == 6 else str(found), loopback


def serve(application: Callable[..., Any], listening: socket.socket) -> None:
    """Answers until SIGINT or SIGTERM; to be called in the main thread."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open: a page asks every few seconds
        disable_nagle_algorithm = True

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    host, port = listening.getsockname()[:2]
    server = make_server(host, port, application, threaded=True, request_handler=Quiet, fd=listening.fileno())

    def stop(*_: object) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()  # it waits for this thread's loop to end

    # No exception out of a handler: one that is raised while an object is finalised is lost.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    server.serve_forever()  # closes it at its end
