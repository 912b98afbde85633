"""A forked child of a process of its own, which ends as a server's worker does: with everything freed."""

import os
import subprocess
import sys
from textwrap import indent


def forked(before: str, child: str, after: str = "") -> str:
    """Return what is printed by a process that runs ``before``, forks, runs ``child`` there, and ``after`` itself."""
    code = f"""
import os, sys, traceback
{before}
pid = os.fork()
if pid == 0:
    try:
{indent(child, "        ")}
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    sys.exit(0)
status = os.waitpid(pid, 0)[1]
{after}
sys.exit(status)
"""
    # "true" is what makes a tokenizer wait for its threads, instead of going on with one.
    env = os.environ | {"TOKENIZERS_PARALLELISM": "true"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
