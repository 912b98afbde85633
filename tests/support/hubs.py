"""A stand-in for the Hugging Face hub: what its client asks of it when it sends and fetches, over HTTP on loopback.

It keeps repositories as git does, each commit a whole set of files; takes large files by LFS, as their .gitattributes
say, or by Xet; shows nothing to who has not the token; and records what was asked of it.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_sesame"
ATTRIBUTES = b"*.onnx filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
_LARGE = 10_000_000  # bytes
Files = dict[str, bytes]


class Asked(NamedTuple):
    method: str
    path: str
    token: str | None
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Answer(NamedTuple):
    status: int
    content: bytes = b""
    headers: dict[str, str] = {}


@dataclass
class Kept:
    """A repository: its commits by their hash, and what its branches and pull requests point to."""

    private: bool
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def add(self, files: Files, ref: str = "main", message: str = "initial commit") -> str:
        oid = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[oid], self.refs[ref] = files, oid
        self.messages.append(message)
        return oid

    def files(self, revision: str = "main") -> Files | None:
        return self.commits.get(self.refs.get(revision, revision))


@dataclass
class StandIn:
    """The hub: what it holds, what was asked, and what it is told to answer otherwise."""

    url: str = ""
    repositories: dict[str, Kept] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    large: Files = field(default_factory=dict)
    refusals: list[tuple[str, Answer]] = field(default_factory=list)
    """Patterns of "METHOD path", and what is answered to them."""
    xet: Path | None = None
    """The folder that large files go to by Xet, None where by LFS; they are not read from there: ``large`` has them."""
    on_commit: Callable[[Files], Files] = dict
    """What becomes of the files of a commit."""
    on_create: Callable[[bool], bool] = bool
    """Whether a repository that is asked to be private is made so."""

    def refuse(self, asked: str, status: int, message: str = "", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.refusals.append((asked, Answer(status, json.dumps({"error": message}).encode(), named)))

    def make(self, name: str, files: Files | None = None, private: bool = True) -> Kept:
        """Put a repository there, as somebody made it before."""
        kept = self.repositories[name] = Kept(private)
        kept.add({".gitattributes": ATTRIBUTES} | (files or {}))
        return kept

    def routes(self) -> list[str]:
        return [f"{one.method} {urlsplit(one.path).path}" for one in self.asked]

    def answer(self, asked: Asked) -> Answer:
        path, query = urlsplit(asked.path).path, parse_qs(urlsplit(asked.path).query)
        self.asked.append(asked)
        for pattern, told in self.refusals:
            if re.fullmatch(pattern, f"{asked.method} {path}"):
                return told
        if path.startswith("/large/"):  # where LFS is told to put files: no token goes there
            self.large[path.removeprefix("/large/")] = asked.body
            return Answer(200)
        if asked.token != TOKEN:
            return Answer(401, b'{"error": "Invalid username or password."}')
        for pattern, serve in _ROUTES:
            if found := re.fullmatch(pattern, f"{asked.method} {unquote(path)}"):
                return serve(self, asked, query, *found.groups())
        return Answer(404, b'{"error": "Not Found"}')


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))


def _missing(code: str) -> Answer:
    return Answer(404, b"{}", {"X-Error-Code": code, "X-Error-Message": "Not found"})


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_lfs(name: str, size: int, files: Files) -> bool:
    lines = files.get(".gitattributes", b"").decode().splitlines()
    return size > _LARGE or any("filter=lfs" in line and fnmatch(name, line.split()[0]) for line in lines)


def _entry(name: str, content: bytes, files: Files) -> dict[str, Any]:
    """Say of a file what repository listings do, with the names that they have in one of them."""
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{_sha256(content)}\nsize {len(content)}\n".encode()
    )
    large = _is_lfs(name, len(content), files)
    lfs = {"sha256": _sha256(content), "oid": _sha256(content), "size": len(content), "pointerSize": len(pointer)}
    oid = _git(pointer if large else content)
    named = {"rfilename": name, "path": name, "type": "file", "size": len(content), "blobId": oid, "oid": oid}
    return named | ({"lfs": lfs} if large else {})


def _who(hub: StandIn, asked: Asked, query: Any) -> Answer:
    return _json({"name": "me", "type": "user", "orgs": [{"name": "org"}]})


def _card(hub: StandIn, asked: Asked, query: Any) -> Answer:
    if "license: no-such" in asked.json["content"]:
        return _json({"errors": [{"message": '"license" must be one of [apache-2.0, mit]'}], "warnings": []}, 400)
    return _json({"errors": [], "warnings": []})


def _create(hub: StandIn, asked: Asked, query: Any) -> Answer:
    given = asked.json
    name = f"{given.get('organization') or 'me'}/{given['name']}"
    if name in hub.repositories:
        return _json({"error": "You already created this model repo"}, 409)
    private = given.get("private", given.get("visibility") == "private")
    hub.make(name, private=hub.on_create(private))
    return _json({"url": f"{hub.url}/{name}"})


def _info(hub: StandIn, asked: Asked, query: Any, name: str, revision: str | None = None) -> Answer:
    kept = hub.repositories.get(name)
    if kept is None:
        return _missing("RepoNotFound")
    files = kept.files(revision or "main")
    if files is None:
        return _missing("RevisionNotFound")
    entries = [_entry(file, content, files) for file, content in sorted(files.items())]
    siblings = entries if query.get("blobs") else [{"rfilename": one["rfilename"]} for one in entries]
    sha = kept.refs.get(revision or "main", revision)
    return _json({"id": name, "sha": sha, "private": kept.private, "siblings": siblings, "tags": [], "downloads": 0})


def _tree(hub: StandIn, asked: Asked, query: Any, name: str, revision: str) -> Answer:
    files = hub.repositories[name].files(revision)
    return _json([_entry(file, content, files or {}) for file, content in sorted((files or {}).items())])


def _preupload(hub: StandIn, asked: Asked, query: Any, name: str, revision: str) -> Answer:
    files, answers = hub.repositories[name].files(revision) or {}, []
    for one in asked.json["files"]:
        path, there = one["path"], files.get(one["path"])
        large = _is_lfs(path, one["size"], files)
        oid = None if there is None else _sha256(there) if large else _git(there)
        answers.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid})
    return _json({"files": answers})


def _batch(hub: StandIn, asked: Asked, query: Any, name: str) -> Answer:
    objects = []
    for one in asked.json["objects"]:
        actions = {"upload": {"href": f"{hub.url}/large/{one['oid']}"}}
        objects.append(one | ({} if one["oid"] in hub.large else {"actions": actions}))
    xet = hub.xet is not None and "xet" in asked.json["transfers"]
    return _json({"transfer": "xet" if xet else "basic", "objects": objects})


def _xet(hub: StandIn, asked: Asked, query: Any, name: str, revision: str) -> Answer:
    """Name a folder as the store of large files: hf_xet has one of its own, for its tests."""
    given = {"casUrl": f"local://{hub.xet}", "exp": int(time.time()) + 3600, "accessToken": "xet"}
    names = ("X-Xet-Cas-Url", "X-Xet-Token-Expiration", "X-Xet-Access-Token")
    return _json(given, headers=dict(zip(names, map(str, given.values()), strict=True)))


def _commit(hub: StandIn, asked: Asked, query: Any, name: str, revision: str) -> Answer:
    kept = hub.repositories[name]
    lines = [json.loads(line) for line in asked.body.splitlines()]
    head, files = lines[0]["value"], dict(kept.files(revision) or {})
    if head.get("parentCommit", kept.refs[revision]) != kept.refs[revision]:
        return _json({"error": "A commit has happened since. Please refresh and try again."}, 412)
    for line in lines[1:]:
        value = line["value"]
        if line["key"] == "deletedFile":
            del files[value["path"]]
        else:
            content = hub.large[value["oid"]] if line["key"] == "lfsFile" else base64.b64decode(value["content"])
            files[value["path"]] = content
    ref = f"refs/pr/{sum(one.startswith('refs/pr') for one in kept.refs) + 1}" if query.get("create_pr") else revision
    oid = kept.add(hub.on_commit(files), ref, head["summary"])
    pull = f"{hub.url}/{name}/discussions/{ref.rpartition('/')[2]}" if ref != revision else None
    return _json({"commitUrl": f"{hub.url}/{name}/commit/{oid}", "commitOid": oid, "pullRequestUrl": pull})


def _file(hub: StandIn, asked: Asked, query: Any, name: str, revision: str, file: str) -> Answer:
    kept = hub.repositories.get(name)
    content = ((kept.files(revision) if kept else None) or {}).get(file)
    if kept is None or content is None:
        return _missing("EntryNotFound")
    etag = _sha256(content) if _is_lfs(file, len(content), kept.files(revision) or {}) else _git(content)
    return Answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": kept.refs.get(revision, revision)})


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: list[tuple[str, Callable[..., Answer]]] = [
    ("GET /api/whoami-v2", _who),
    ("POST /api/validate-yaml", _card),
    ("POST /api/repos/create", _create),
    (f"GET /api/models/{_NAME}", _info),
    (f"GET /api/models/{_NAME}/revision/(.+)", _info),
    (f"GET /api/models/{_NAME}/tree/(.+)", _tree),
    (f"POST /api/models/{_NAME}/preupload/(.+)", _preupload),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", _batch),
    (f"GET /api/models/{_NAME}/xet-write-token/(.+)", _xet),
    (f"POST /api/models/{_NAME}/commit/(.+)", _commit),
    (f"(?:GET|HEAD) /{_NAME}/resolve/([^/]+)/(.+)", _file),
]


def _handler(hub: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
            answer = hub.answer(Asked(self.command, self.path, token, self._body()))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.content)

        do_HEAD = do_POST = do_PUT = do_GET

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *given: Any) -> None:
            pass

    return Handler


@contextmanager
def standing_in() -> Iterator[StandIn]:
    """Run a hub of its own on a free port until the body ends."""
    hub = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
