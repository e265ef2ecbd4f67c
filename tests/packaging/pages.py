"""Follows a page of the documentation word for word: saves its files, runs its commands, compares their output.

A program below "Save this as `NAME`" is saved; below "the line `...` becomes" it replaces a line. A console block is
run line by line, in another terminal if the paragraph above says "another terminal" or "third terminal". Servers are
left running. A text block directly below a console block is its output.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

DOCS = Path(__file__).parents[2] / "docs"
TIMEOUT = 60.0
"""Seconds until a server listens or logs the text of a page."""
_BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_DONE = "__typed__"


@dataclass(frozen=True)
class Block:
    """A block of a page.

    :param said: the paragraph above it, on one line; empty where another block is.
    """

    kind: str
    text: str
    said: str


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    end = 0
    for found in _BLOCK.finditer(page):
        before = page[end : found.start()].strip()
        said = " ".join(before.split("\n\n")[-1].split()) if before else ""
        yield Block(found["kind"], found["text"], said)
        end = found.end()


class Terminal:
    """A shell that runs lines."""

    def __init__(self, folder: Path, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._running: list[int] = []
        self._shell = subprocess.Popen(
            ["/bin/sh"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, line: str) -> str:
        """Run a command; return its output.

        :raises AssertionError: if it fails.
        """
        printed = self._send(line)
        output, _, status = printed.rpartition(_DONE)
        assert status.strip() == "0", f"{line}\n{output}"
        return output

    def leave_running(self, line: str) -> None:
        """Start a command that runs until :meth:`stop`."""
        output = self._send(f"{line} >>{self._log} 2>&1 & echo $!").partition(_DONE)[0]
        self._running.append(int(output.split()[-1]))

    def stop(self) -> None:
        """Stop the commands that are still running."""
        for process in self._running:
            os.kill(process, signal.SIGTERM)
            self._send(f"wait {process}")
        self._running.clear()

    def close(self) -> None:
        self.stop()
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait(60)
        if self._shell.stdout is not None:
            self._shell.stdout.close()

    def _send(self, line: str) -> str:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{line}\necho {_DONE} $?\n")
        self._shell.stdin.flush()
        printed = ""
        while not printed.endswith("\n") or _DONE not in printed.splitlines()[-1]:
            read = self._shell.stdout.readline()
            assert read, f"the shell has ended: {printed}"
            printed += read
        return printed


class Reader:
    """Follows a page in an empty folder.

    :param page: the page's name below ``docs``.
    :param ports: the ports of the page, and free ports that replace them.
    :param swaps: addresses of the page, and those of the servers that replace them.
    :param tools: the folder of programs that is first in the path.
    :param environment: further environment variables of the terminals.
    """

    def __init__(
        self,
        page: str,
        folder: Path,
        *,
        ports: Mapping[int, int],
        environment: Mapping[str, str] | None = None,
        tools: Path | None = None,
        swaps: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._swaps = swaps or {}
        self._ports = ports
        self.log = folder.with_name(f"{folder.name}.log")
        path = f"{tools or '/usr/local/bin'}:/usr/sbin:/usr/bin:/bin"
        # Requests to loopback must not use a proxy.
        self._environment = {"PATH": path, "HOME": str(folder), "NO_PROXY": "*", **(environment or {})}
        self._terminals: dict[str, Terminal] = {}
        self._blocks = list(blocks((DOCS / page).read_text("utf-8")))
        self.printed = ""
        self.left = list(self._blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for terminal in self._terminals.values():
            terminal.close()

    def follow(self, count: int = 0) -> None:
        """Follow the next ``count`` blocks, or all remaining ones."""
        for _ in range(count or len(self.left)):
            self.do(self.left.pop(0))

    def do(self, block: Block) -> None:
        """Follow one block."""
        text = self.here(block.text)
        saved = re.search(r"[Ss]ave (?:this|it) (?:as|in) `(?P<name>[^`]+)`", block.said)
        line = re.search(r"in `(?P<name>[^`]+)`, the line `(?P<line>[^`]+?)(?: \.\.\.)?` becomes$", block.said)
        if block.kind == "console":
            self.printed = self._type(text, self._terminal(block.said))
        elif block.kind == "text" and not block.said:
            assert self.printed == text
        elif block.kind == "text" and "the log" in block.said:
            self.expect_in_log(text.strip())
        elif line:
            self._replace(self._folder / line["name"], line["line"], text)
        elif saved:
            path = self._folder / saved["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        else:
            assert block.kind == "text", f"the page does not say what to do with this block: {block}"

    def here(self, text: str) -> str:
        """Return a text of the page with the ports and addresses of this test."""
        for port, free in self._ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        for address, player in self._swaps.items():
            text = text.replace(address, player)
        return text

    def expect_in_log(self, text: str) -> None:
        """Wait until the running commands have logged a text, with any reference."""
        pattern = re.sub(r"reference\\ [0-9a-f]+", "reference [0-9a-f]+", re.escape(text))
        deadline = time.monotonic() + TIMEOUT
        while not re.search(pattern, self.log.read_text("utf-8")):
            assert time.monotonic() < deadline, f"{text!r} is not in {self.log.read_text('utf-8')}"
            time.sleep(0.05)

    def _terminal(self, said: str) -> Terminal:
        name = next((name for name in ("another terminal", "third terminal") if name in said), "first terminal")
        if "the same terminal" in said:
            name = "another terminal"
        if "stop the application" in said:
            self._terminals[name].stop()
        if name not in self._terminals:
            self._terminals[name] = Terminal(self._folder, self._environment, self.log)
        return self._terminals[name]

    def _type(self, text: str, terminal: Terminal) -> str:
        printed = ""
        for line in text.replace("\\\n", "").splitlines():
            port = self._served_by(line)
            if port is None:
                printed += terminal.type(re.sub(r"^curl ", "curl --silent --show-error ", line))
            else:
                terminal.leave_running(self._at_port(line, port))
                wait_for(port)
                if "identity-provider" in line:
                    # It opens its port before it writes its metadata.
                    self.expect_in_log("Its metadata")
        return printed

    def _served_by(self, line: str) -> int | None:
        """Return the port of a command that runs until it is stopped, or ``None``."""
        if re.search(r"^flask .*\brun\b", line):
            return self._ports[5000]
        if line.startswith("nginx "):
            return self._ports[8443]
        return self._ports[5001] if "identity-provider" in line else None

    def _at_port(self, line: str, port: int) -> str:
        return line if str(port) in line or line.startswith("nginx ") else f"{line} --port {port}"

    def _replace(self, path: Path, begins: str, text: str) -> None:
        lines = path.read_text("utf-8").splitlines(keepends=True)
        (place,) = [place for place, line in enumerate(lines) if line.strip().startswith(begins)]
        lines[place] = text
        path.write_text("".join(lines), "utf-8")


def wait_for(port: int) -> None:
    """Wait until a server listens on a port."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"no server listens on port {port}")
