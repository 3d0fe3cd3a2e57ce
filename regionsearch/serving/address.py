"""Where a server listens."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass

from regionsearch.errors import FailedPrecondition, InvalidRequest


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host name or address, and a port (0: any free one)."""

    host: str
    port: int

    @staticmethod
    def parse(text: str) -> Address:
        """From `HOST:PORT` or `[IPV6]:PORT`. Raises InvalidRequest for anything else."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535) or (
            ":" in host and not bracketed
        ):
            raise InvalidRequest(f"{text!r} is not HOST:PORT", field="address")
        return Address(host[1:-1] if bracketed else host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def check_free(address: Address) -> None:
    """Raises FailedPrecondition, with the system's own reason, when nothing can listen there.

    gRPC would only say that it failed, and print its reasons on stderr.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, where = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            # Where another server listens with SO_REUSEADDR, only listening fails.
            probe.listen()
    except OSError as error:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else _reason(error)
        raise FailedPrecondition(f"cannot listen on {address}: {reason}") from error


def _reason(error: OSError) -> str:
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))
