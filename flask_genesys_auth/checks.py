"""Results of health checks, each with advice, and checks that several parts share."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

CLOCKS_AGREE = 2.0
"""Seconds by which two clocks may differ: a ``Date`` header has a resolution of one second."""

SLOW = 0.1
"""Seconds from which a round trip to a store is slow: every request waits for it."""

_WRITABLE_BY_ALL = stat.S_IWOTH
_ANYTHING_BY_ALL = stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one health check.

    :param name: dotted, such as ``saml.acme.okta.metadata``.
    :param status: ``"warning"``: it works, but an operator should act.
    :param finding: what was found; without secrets.
    :param advice: what to do; empty if the status is ``"ok"``.
    """

    name: str
    status: Literal["ok", "warning", "failure"]
    finding: str
    advice: str = ""


def installed_version(package: str) -> str:
    """Return the version of an installed package, or an empty string."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def clock_check(name: str, whose: str, ahead: float, *, allowed: float) -> Check:
    """Compare another clock with ours.

    :param whose: the owner of the other clock, such as ``"PostgreSQL"``.
    :param ahead: seconds by which it is ahead of ours; negative: behind.
    :param allowed: the largest difference in seconds that breaks nothing.
    """
    apart = abs(ahead)
    if apart <= CLOCKS_AGREE:
        return Check(name, "ok", f"the clock of {whose} and ours agree")
    direction = "ahead of" if ahead > 0 else "behind"
    finding = f"the clock of {whose} is {apart:.0f} s {direction} ours; {allowed:.0f} s are allowed"
    advice = "set both clocks by NTP (timedatectl, chronyc tracking)"
    return Check(name, "failure" if apart > allowed else "warning", finding, advice)


def absent_file_check(name: str, path: Path) -> Check:
    """Check whether a missing file, which is created on first use, can be created."""
    nearest = next((folder for folder in path.absolute().parents if folder.exists()), path.absolute())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Check(name, "ok", f"{path} does not exist yet and can be created")
    finding = f"{path} does not exist and cannot be created: this user cannot write to {nearest}"
    return Check(name, "failure", finding, "give the application's user write access to that folder")


def file_checks(name: str, path: Path, *, secret: bool) -> Iterator[Check]:
    """Check the permissions of a file and its folder.

    :param secret: whether other users must not read it. Other users must never be able to write it.
    """
    try:
        mode = path.stat().st_mode
        folder = path.absolute().parent.stat().st_mode
    except OSError as error:
        yield Check(name, "failure", f"{path}: {error.strerror}", "restore the file, or change the configuration")
        return
    if os.name != "posix":
        yield Check(name, "ok", f"{path} exists; permissions are not checked on this system")
        return
    shown = f"{path} has mode {stat.S_IMODE(mode):04o}"
    if mode & (_ANYTHING_BY_ALL if secret else _WRITABLE_BY_ALL):
        wanted = "o-rwx" if secret else "o-w"
        what = "readable or writable" if secret else "writable"
        yield Check(name, "failure", f"{shown}: it is {what} by all users of this machine", f"chmod {wanted} {path}")
    elif folder & _WRITABLE_BY_ALL and not folder & stat.S_ISVTX:
        finding = f"all users of this machine can replace {path}: its folder has mode {stat.S_IMODE(folder):04o}"
        yield Check(name, "failure", finding, f"chmod o-w {path.absolute().parent}")
    elif not os.access(path, os.R_OK):
        yield Check(name, "warning", f"{shown}: this user cannot read it", "run this command as the application's user")
    else:
        yield Check(name, "ok", shown)
