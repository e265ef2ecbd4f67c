"""What the parts say of their own health, each finding with what to do about it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

CLOCKS_AGREE = 2.0
"""Seconds by which two clocks may differ and still count as agreeing: a ``Date`` header knows whole seconds only."""

SLOW = 0.1
"""Seconds that one round trip to a store may take: every request waits for it."""

_WRITABLE_BY_ALL = stat.S_IWOTH
_ANYTHING_BY_ALL = stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    :param name: dotted, such as ``saml.acme.okta.metadata``.
    :param status: ``"warning"`` where everything works but somebody should look at it.
    :param finding: what was found; holds no secret.
    :param advice: what to do, or empty where all is well.
    """

    name: str
    status: Literal["ok", "warning", "failure"]
    finding: str
    advice: str = ""


def installed_version(package: str) -> str:
    """Return the version of an installed package, or nothing if it is not installed as one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def clock_check(name: str, whose: str, ahead: float, *, allowed: float) -> Check:
    """Compare somebody's clock with ours.

    :param whose: in words, such as ``"PostgreSQL"``.
    :param ahead: seconds that theirs is before ours; negative: behind.
    :param allowed: seconds from which something goes wrong.
    """
    apart = abs(ahead)
    if apart <= CLOCKS_AGREE:
        return Check(name, "ok", f"the clock of {whose} and ours agree")
    direction = "ahead of" if ahead > 0 else "behind"
    finding = f"the clock of {whose} is {apart:.0f} s {direction} ours; {allowed:.0f} s are allowed"
    advice = "set both clocks by NTP (timedatectl, chronyc tracking)"
    return Check(name, "failure" if apart > allowed else "warning", finding, advice)


def absent_file_check(name: str, path: Path) -> Check:
    """Say whether a file that is made when it is needed first can be made."""
    nearest = next((folder for folder in path.absolute().parents if folder.exists()), path.absolute())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Check(name, "ok", f"{path} is not there yet, and can be made")
    finding = f"{path} is not there and cannot be made: {nearest} is no folder that this user may write"
    return Check(name, "failure", finding, "let the user who runs the application write there")


def file_checks(name: str, path: Path, *, secret: bool) -> Iterator[Check]:
    """Look at who may read and write a file, and its folder.

    :param secret: whether nobody else may read it; what is no secret must still be written by nobody else.
    """
    try:
        mode = path.stat().st_mode
        folder = path.absolute().parent.stat().st_mode
    except OSError as error:
        yield Check(name, "failure", f"{path}: {error.strerror}", "put it back, or change the configuration")
        return
    if os.name != "posix":
        yield Check(name, "ok", f"{path} is there; who may read it is not looked at on this system")
        return
    shown = f"{path} has mode {stat.S_IMODE(mode):04o}"
    if mode & (_ANYTHING_BY_ALL if secret else _WRITABLE_BY_ALL):
        wanted = "o-rwx" if secret else "o-w"
        what = "readable or writable" if secret else "writable"
        yield Check(name, "failure", f"{shown}: it is {what} by everybody on this machine", f"chmod {wanted} {path}")
    elif folder & _WRITABLE_BY_ALL and not folder & stat.S_ISVTX:
        finding = f"everybody on this machine may replace {path}: its folder has mode {stat.S_IMODE(folder):04o}"
        yield Check(name, "failure", finding, f"chmod o-w {path.absolute().parent}")
    elif not os.access(path, os.R_OK):
        yield Check(name, "warning", f"{shown}: this user cannot read it", "run this as the application's user")
    else:
        yield Check(name, "ok", shown)
