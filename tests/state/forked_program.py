"""A program for :mod:`tests.state.test_sqlite`: its process uses a SQLite file, forks, and ends; the child goes on.

Arguments: the file and a kind of fork. Between its writes another process opens the file and closes it again. The last
line of the output is what other processes read then, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from flask_genesys_auth.state.sql import SqlState
from tests.forking import FORKS


def read_elsewhere(url: str) -> list[object]:
    """Return what a process of its own reads; it is the only one that has opened the file, as far as it can see."""
    program = (
        "import json, sys\n"
        "from flask_genesys_auth.state.sql import SqlState\n"
        "store = SqlState(sys.argv[1], 'one', 30.0)\n"
        "print(json.dumps(store.get_many(['revoked', 'begun'])))\n"
        "store.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=True)
    found: list[object] = json.loads(done.stdout)
    return found


def main() -> None:
    url = f"sqlite:///{sys.argv[1]}"
    store = SqlState(url, "one", 30.0)
    store.put("warm", 1, 60)
    parent = os.getpid()
    ended, ends = os.pipe()
    if FORKS[sys.argv[2]]():
        os._exit(0)
    os.close(ends)
    os.read(ended, 1)  # returns when the parent has ended
    assert os.getpid() != parent
    store.put("revoked", "ann", 60)
    read_elsewhere(url)
    store.delete("revoked")
    store.put("begun", "bob", 60)
    sys.stdout.write(json.dumps(read_elsewhere(url)) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
