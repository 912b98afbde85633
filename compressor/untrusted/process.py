"""The process that opens a graph or tokenizer for the first time, with bounded memory and time, and little imported.

It is started by its path, reads one request from stdin (JSON, a line) and answers with one line on stdout. Of this
project only what imports no PyTorch is used here: a stranger's file is opened before half a second has gone by.
"""

import hashlib
import io
import json
import os
import sys
import zipfile
from collections import Counter
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows: the parent's time-out is the only bound
    resource = None  # type: ignore[assignment]

sys.path.append(str(Path(__file__).parents[2]))

from compressor.machine.exact import open_exact
from compressor.untrusted.foreign import run_foreign
from compressor.untrusted.graph import FOREIGN, Refusal, Stated, check_model, first_line, precision_of, refusing, run
from compressor.untrusted.ort_format import MARK, check_session, operators_of
from compressor.untrusted.positions import Lookups, check_length, check_words, lookups_of, words_of

MOST_TOKENS_A_CHARACTER = 8
SIDE_MB = 256  # what a few tokens may need beside the weights
MOST_UNPACKED = 20  # times an archive's own size
_TEXTS = (
    "",
    "a",
    "The quick brown fox jumps over the lazy dog. " * 40,
    " ".join(chr(c) for c in range(33, 127)),
    "a" * 2000,
    "日本語 中文 한국어 עברית العربية 👩‍👩‍👧 e\u0301 ﬁ",
)


def main() -> None:
    """Answer one request: ``{"found": facts}``, or ``{"refused": line}``."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no answer
    if resource:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import onnx  # while the parent hashes
    import onnxruntime
    import tokenizers

    request = json.loads(sys.stdin.readline())
    try:
        reply: dict[str, Any] = {"found": inspect(request, onnx, onnxruntime, tokenizers)}
    except Refusal as refusal:
        reply = {"refused": str(refusal)}
    except MemoryError:
        reply = {"refused": f"asks for more than {request['memory_bytes'] >> 20} MiB of memory"}
    except Exception as error:  # parser, runtime and tokenizer raise their own kinds
        reply = {"refused": f"cannot be read: {first_line(error)}"}
    answer.write(json.dumps(reply) + "\n")
    answer.flush()
    os._exit(0)  # no clean-up of what a stranger's graph left


def inspect(request: dict[str, Any], onnx: Any, onnxruntime: Any, tokenizers: Any) -> dict[str, Any]:
    """Check and run what the request names; Refusal at the first fault."""
    form = request.get("form", "ids")
    library = _extensions() if form == "text" else None
    found: dict[str, Any] = {"limited": _limit(request["memory_bytes"], request["cpu_seconds"])}
    before = _peak_bytes()
    contents = {name: _read(request[name]) for name in ("graph", "tokenizer", "cases") if request.get(name)}
    if request.get("archive"):
        contents |= _unpacked(_read(request["archive"]))
    session, tokenizer, precision = None, None, "fp32"
    lookups: Lookups | None = None
    words: int | None = None

    def opened(graph: bytes) -> Any:
        return _opened(graph, library, request["memory_bytes"], onnxruntime)

    if graph := contents.get("graph"):
        found["operators"], outputs, precision, lookups, words = _operators(graph, form, onnx)
        found["precision"] = precision
        if form == "text" and library is None:
            found["unrun"] = "onnxruntime-extensions is not installed"
        else:
            session = opened(graph)
        if session is not None and form == FOREIGN:
            found |= run_foreign(session, request["memory_bytes"])
        elif session is not None:
            found["dim"] = run(session, outputs or check_session(session, form), form, request["memory_bytes"])
    if content := contents.get("tokenizer"):
        tokenizer = check_tokenizer(content, tokenizers)
        found["tokens"] = int(tokenizer.get_vocab_size())
        if words is not None:
            check_words(tokenizer, words)
    after = _peak_bytes()
    if before is not None and after is not None:
        found["peak_bytes"] = after - before
        most = (SIDE_MB << 20) + 8 * sum(map(len, contents.values()))
        if after - before > most:
            raise Refusal(f"takes {(after - before) >> 20} MiB for 8 tokens; at most {most >> 20} are allowed")
    if session is not None and (length := request.get("length")):
        check_length(length["stated"], length["tokens"], session, lookups, opened, _token(tokenizer))
    if cases := contents.get("cases"):
        from compressor.artifact.prompts import Prompts
        from compressor.untrusted.cases import check_cases

        prompts = Prompts(**request["prompts"])  # of the model, which whoever asks has read
        held = check_cases(cases, tokenizer, session, precision, request["truncation"], prompts)
        found["cases"], found["prompted"] = len(held), sum(bool(case.prompt) for case in held)
    return found


def check_tokenizer(content: bytes, tokenizers: Any) -> Any:
    """Return a tokenizer; Refusal for one that cannot be read, or that blows texts up."""
    try:
        tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        longest = [(len(text), len(tokenizer.encode(text).ids)) for text in _TEXTS]
    except Exception as error:  # the library raises nothing narrower
        raise Refusal(f"tokenizer.json: cannot be read: {first_line(error)}") from error
    for characters, tokens in longest:
        if tokens > MOST_TOKENS_A_CHARACTER * (characters + 8):
            raise Refusal(f"tokenizer.json: makes {tokens} tokens of {characters} characters")
    return tokenizer


def _token(tokenizer: Any) -> int:
    """Return the id of a token that is no padding, which has no position in some families."""
    ids = [] if tokenizer is None else tokenizer.encode("a").ids
    return int(ids[len(ids) // 2]) if ids else 0


def _limit(memory_bytes: int, cpu_seconds: int) -> bool:
    """Bound this process; return whether the system bounds its memory."""
    if resource is None:
        return False
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it has nothing to write
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    except (ValueError, OSError):  # macOS
        return False
    return sys.platform.startswith("linux")


def _peak_bytes() -> int | None:
    """Return the most memory this process ever had; None where only the system of its parent could tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:")), None)
    except OSError:
        return None


def _read(wanted: dict[str, Any]) -> bytes:
    """Read a file once, so that what is checked is what is run."""
    with open(wanted["path"], "rb") as file:
        content = file.read(wanted["size"] + 1)
    if len(content) != wanted["size"] or hashlib.sha256(content).hexdigest() != wanted["sha256"]:
        raise Refusal("changed while it was being checked")
    return content


def _unpacked(content: bytes) -> dict[str, bytes]:
    """Return the graph and tokenizer of an archive that holds nothing else."""
    parts = {"model.onnx": "graph", "tokenizer.json": "tokenizer"}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if sorted(entry.filename for entry in entries) != sorted(parts):
            raise Refusal(f"must hold {' and '.join(parts)}, and nothing else")
        if sum(entry.file_size for entry in entries) > MOST_UNPACKED * len(content):
            raise Refusal(f"unpacks to more than {MOST_UNPACKED} times its size")
        return {parts[entry.filename]: archive.read(entry) for entry in entries}


def _operators(
    graph: bytes, form: str, onnx: Any
) -> tuple[Counter[str], list[Stated], str, Lookups | None, int | None]:
    """Return a graph's operators, what it states of its outputs, its precision, its look-ups in tables, its words.

    ONNX Runtime's own format tells of outputs only when open, and has no conformance set.
    """
    if graph[4:8] == MARK:
        return operators_of(graph, form), [], "fp32", None, None
    try:
        model = onnx.ModelProto.FromString(graph)
    except MemoryError:
        raise
    except Exception as error:  # protobuf's own kind
        raise Refusal("not a whole ONNX graph") from error
    return *check_model(model, form, onnx), precision_of(model, onnx), lookups_of(model, onnx), words_of(model)


def _opened(graph: bytes, library: str | None, memory_bytes: int, onnxruntime: Any) -> Any:
    """Open a graph from memory: one without a place on disk finds no file beside it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    if library:
        options.register_custom_ops_library(library)
    with refusing(memory_bytes):
        return open_exact(graph, options, providers=["CPUExecutionProvider"])


def _extensions() -> str | None:
    """Return the library of onnxruntime-extensions, whose Python brings PyTorch along; None where there is none."""
    found = find_spec("onnxruntime_extensions")
    places = found.submodule_search_locations if found else None
    paths = [Path(place, f"_extensions_pydll{suffix}") for place in places or () for suffix in EXTENSION_SUFFIXES]
    return next((str(path) for path in paths if path.is_file()), None)


if __name__ == "__main__":
    main()
