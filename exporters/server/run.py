"""A server from its start to its end: check, open, listen; and, once told to end, answer what was taken."""

import asyncio
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from compressor.artifact.layout import require_graph
from compressor.artifact.manifest import own_manifest, recipe_of
from compressor.core.errors import RecipeError, installed
from compressor.untrusted.inspection import check
from exporters.server.settings import Serving

_NAME = re.compile(r"[A-Za-z0-9][\w.:@+/-]{0,199}", re.ASCII)
_KEEP_ALIVE = 75  # seconds that an idle connection is kept: longer than clients and proxies keep theirs
_BACKLOG = 2048  # connections that the system keeps until they are accepted


def named(given: Sequence[str]) -> dict[str, Path]:
    """Return the folders to serve by name, of ``FOLDER`` or ``NAME=FOLDER`` each.

    The name of a folder alone is that of the recipe that it was made by, or its own. RecipeError for a name that comes
    twice or does not fit an address.
    """
    found: dict[str, Path] = {}
    for text in given:
        before, equals, after = text.partition("=")
        stated = bool(equals) and not Path(text).exists()
        folder = Path(after if stated else text)
        name = before if stated else _own_name(folder)
        if not _NAME.fullmatch(name):
            allowed = "must begin with a letter or digit, and have letters, digits and . _ : @ + / - alone"
            raise RecipeError(f"name of {folder} = {name!a:.60}: {allowed}; give NAME={folder}")
        if name in found:
            raise RecipeError(f"{folder}: is called {name}, as {found[name]} is; give NAME={folder}")
        found[name] = folder
    return found


def _own_name(folder: Path) -> str:
    name = recipe_of(own_manifest(folder)).get("name")
    return name if isinstance(name, str) and _NAME.fullmatch(name) else folder.resolve().name


def run(folders: Mapping[str, Path], serving: Serving, key: str | None, say: Callable[[str], None]) -> None:
    """Serve artifacts until SIGTERM or SIGINT; ``say`` is given a line when requests are taken.

    Nothing of an artifact is used before all of it was checked as ``compressor verify`` does it: ArtifactError at the
    first fault. RecipeError where the address cannot be listened on, DependencyError without the packages.
    """
    serving.check()
    server = installed("uvicorn", "uvicorn", "serve")
    listening = bound(serving.host, serving.port)
    with listening, ThreadPoolExecutor() as pool:
        checks = [pool.submit(_check, folder) for folder in folders.values()]
        for module in ("orjson", "starlette", "prometheus_client"):
            installed(module, module.replace("_", "-"), "serve")
        from exporters.server.app import app_of  # while the artifacts are checked
        from exporters.server.models import Models
        from exporters.server.service import Service

        for checked in checks:
            checked.result()
        service = Service(Models.open(folders, serving), serving, key)
        ending = _Ending(service, serving.drain_seconds)

        def begin() -> None:
            ending.listen_for_signals()
            listening.listen(_BACKLOG)
            say(_line(listening, folders, key))

        config = server.Config(
            app_of(service, begin),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="on",
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=serving.finish_seconds,
        )
        ending.server = server.Server(config)
        _allow_connections()
        ending.server.run(sockets=[listening])
        counts = ", ".join(f"{count} {what}" for what, count in service.counts.items())
        say(f"ended: of the requests {counts}")


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that has the address and does not listen yet; RecipeError where it cannot be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"host = {host}, port = {port}: cannot be listened on ({reason})") from error
    return made


def _check(folder: Path) -> None:
    require_graph(folder)
    check(folder)


class _Ending:
    """A server that is told to end first answers what still comes, then what it has, then ends."""

    server: Any

    def __init__(self, service: Any, drain_seconds: float) -> None:
        self._service, self._drain_seconds = service, drain_seconds

    def listen_for_signals(self) -> None:
        """Take the signals over from uvicorn, which would close idle connections while requests are on their way."""
        if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
            return  # no loop takes signals there: uvicorn's handlers remain
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.begin)

    def begin(self) -> None:
        """Begin to end; at the second time, end at once."""
        if self._service.draining:
            self.server.should_exit = self.server.force_exit = True
            return
        self._service.draining = True
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        self.server.should_exit = True


def _line(listening: socket.socket, folders: Mapping[str, Path], key: str | None) -> str:
    host, port = listening.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    asked = "asks for no key" if key is None else "asks for the key"
    return f"http://{address} serves {', '.join(folders)}; {asked}"


def _allow_connections() -> None:
    """Let the process have as many open connections as the system allows it: by default that is often 1,024."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
