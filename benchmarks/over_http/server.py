"""A server as a user starts it: a process of its own, known by its port alone, and gone at the end."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from compressor.core.errors import PeerError


class Server:
    """A process that serves."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process, self._log = process, log

    def check(self) -> None:
        """Raise PeerError, with what it said last, once it has ended."""
        if (status := self._process.poll()) is not None:
            lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
            last = f": {' '.join(lines[-1].split())[:300]}" if lines else ""
            raise PeerError(f"its server ended with status {status}{last}")


@contextmanager
def serving(command: Sequence[str], variables: Mapping[str, str]) -> Iterator[Server]:
    """Start ``command``, a server; PeerError where it cannot be. It ends with the body."""
    with tempfile.TemporaryDirectory(prefix="compressor-server-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as said:
            try:
                process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    env=dict(variables),
                    cwd=folder,  # what it leaves beside it goes with it
                    start_new_session=True,  # it may start others, which end with it
                )
            except OSError as error:
                raise PeerError(f"{command[0]}: cannot be started: {error.strerror}") from error
        try:
            yield Server(process, log)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """Return a port of loopback that nobody has at this moment."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])
