"""What a process asked the kernel for, and in which order, as strace saw it.

strace stops a thread at the beginning and at the end of every call that it shows, and the thread goes
on only when the line was written. So of two events of which one had to wait for the other, the lines
stand in that order, whichever threads they happened in.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bson
import pytest

from tests.support import PATIENCE, eventually

_SHOWN = 256 << 10
"""Bytes of a string that strace writes down. Bodies of requests and blobs may be longer."""

_SENDS = {"sendto", "sendmsg", "write", "writev"}
_RECEIVES = {"recvfrom", "recvmsg", "read", "readv"}
_FILES = {"openat", "open", "creat", "pwrite64", "fdatasync", "fsync", "sync_file_range"}
_RENAMES = {"rename", "renameat", "renameat2"}

_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)", re.DOTALL)
_RESULT = re.compile(r"\) += (-?\d+|\?|0x[0-9a-f]+)(?:<((?:\\x[0-9a-f]{2})*)>)?[^=]*$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_SLICE = re.compile(r'iov_base="((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"\d+<((?:\\x[0-9a-f]{2})*)>")
_UNFINISHED = " <unfinished ...>"


@dataclass(slots=True)
class Call:
    """One system call. `began` and `ended` are places in the order of all events; a call that was
    under way when strace was stopped never `ended`, and has no result."""

    name: str
    began: int
    ended: int | None
    result: int | None
    path: str
    """What the descriptor that it was given, or that it returned, stands for."""
    strings: tuple[bytes, ...]

    @property
    def done(self) -> bool:
        return self.ended is not None and self.result is not None and self.result >= 0

    @property
    def end(self) -> int:
        """`ended` of a call that did end."""
        assert self.ended is not None, self
        return self.ended

    @property
    def data(self) -> bytes:
        """The bytes that were really transferred."""
        assert self.result is not None
        return b"".join(self.strings)[: self.result]


@dataclass(slots=True)
class Message:
    """One message of MongoDB's protocol (OP_MSG): `body` with the documents of its sequences in it.

    It `began` with the call that transferred its first byte and `ended` with the one of its last.
    """

    stream: str
    sent: bool
    began: int
    ended: int
    number: int
    answers: int
    body: dict[str, Any]


@dataclass(slots=True)
class Trace:
    """Complete once the block of `traced` is left."""

    calls: list[Call] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)

    def answer_to(self, request: Message) -> Message:
        """The answer to a request, whichever side of the connection was traced."""
        (answer,) = (
            message
            for message in self.messages
            if (message.stream, message.answers, message.sent) == (request.stream, request.number, not request.sent)
        )
        return answer


@contextmanager
def traced(pid: int, directory: Path) -> Iterator[Trace]:
    """Trace a running process, all its threads included, as long as the block runs.

    Where strace is missing or may not do it, the test fails.
    """
    program = shutil.which("strace")
    if program is None:
        pytest.fail("strace is not installed, without which this can't be tested: apt-get install strace")
    trace = Trace()
    output = directory / f"strace-{pid}"
    shown = ",".join(sorted(_SENDS | _RECEIVES | _FILES | _RENAMES))
    process = subprocess.Popen(
        [program, "-f", "-y", "-xx", "-s", str(_SHOWN), "-e", f"trace={shown}", "-o", str(output), "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        eventually(lambda: process.poll() is not None or _all_threads_traced(pid, process.pid))
        if process.poll() is not None:
            pytest.fail(
                f"strace can't attach to a process: {process.communicate()[1].strip()} "
                "(it needs root, or the sysctl kernel.yama.ptrace_scope=0; in a container, the capability SYS_PTRACE)"
            )
        yield trace
        # A thread stands still until its last call is written down.
        eventually(lambda: not _any_stopped(pid))
    finally:
        process.terminate()
        words = process.communicate(timeout=PATIENCE)[1]
    assert output.exists(), words
    trace.calls += parse(output.read_text(encoding="ascii").splitlines())
    trace.messages += messages(trace.calls)


def _any_stopped(pid: int) -> bool:
    """Whether strace has yet to see to a thread of the process."""
    return any("State:\tt" in status for status in _thread_statuses(pid))


def _all_threads_traced(pid: int, tracer: int) -> bool:
    statuses = _thread_statuses(pid)
    return bool(statuses) and all(f"TracerPid:\t{tracer}\n" in status for status in statuses)


def _thread_statuses(pid: int) -> list[str]:
    """What the kernel says of each thread of the process; of those that end meanwhile, nothing."""
    statuses: list[str] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            statuses.append((task / "status").read_text())
    return statuses


def parse(lines: Iterable[str]) -> list[Call]:
    """The calls in the order in which they began; of strace's `-f -y -xx` output."""
    calls: list[Call] = []
    under_way: dict[str, tuple[Call, str]] = {}
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if match is None:
            continue
        thread, resumed, name, rest = match.groups()
        if resumed is None:
            call = Call(name, number, None, None, "", ())
            calls.append(call)
            if rest.endswith(_UNFINISHED):
                text = rest.removesuffix(_UNFINISHED)
                _fill(call, text)
                under_way[thread] = call, text
                continue
            text = rest
        elif thread in under_way:
            call, text = under_way.pop(thread)
            text += rest
        else:
            # It was under way when strace came.
            continue
        _fill(call, text)
        if result := _RESULT.search(text):
            call.ended = number
            call.result = None if result[1] == "?" else int(result[1], 0)
            if call.path == "" and result[2]:
                call.path = _bytes(result[2]).decode()
    return calls


def _fill(call: Call, text: str) -> None:
    descriptor = _DESCRIPTOR.match(text)
    call.path = _bytes(descriptor[1]).decode() if descriptor else ""
    call.strings = tuple(map(_bytes, _SLICE.findall(text) or _STRING.findall(text)))


def _bytes(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_LARGEST = 48_000_000
_CHECKSUM, _CHECKSUM_PRESENT = 4, 1


def messages(calls: Iterable[Call]) -> list[Message]:
    """All messages of MongoDB's protocol that went through sockets, in the order in which they ended.

    A message may come in pieces, by several calls, of several threads. A stream that strace met in the
    middle of a message is taken up at the next one.
    """
    found: list[Message] = []
    streams: dict[tuple[str, bool], _Stream] = {}
    for call in sorted((call for call in calls if call.done), key=lambda call: call.end):
        sent = call.name in _SENDS
        if call.result and (sent or call.name in _RECEIVES) and call.path.startswith("socket:"):
            stream = streams.setdefault((call.path, sent), _Stream(call.path, sent))
            found += stream.take(call)
    return found


class _Stream:
    """One direction of one socket."""

    def __init__(self, name: str, sent: bool) -> None:
        self._name = name
        self._sent = sent
        self._pending = bytearray()
        self._began = 0

    def take(self, call: Call) -> Iterator[Message]:
        if not self._pending:
            self._began = call.began
        data = call.data
        if len(data) != call.result:
            # Not all of it was written down: a body of HTTP. If it were MongoDB's, what follows would not fit.
            self._pending.clear()
            return
        self._pending += data
        while len(self._pending) >= _HEADER.size:
            size, number, answers, code = _HEADER.unpack_from(self._pending)
            if code != _OP_MSG or not _HEADER.size < size <= _LARGEST:
                self._pending.clear()
                return
            if len(self._pending) < size:
                return
            body = _unpacked(bytes(self._pending[_HEADER.size : size]))
            yield Message(self._name, self._sent, self._began, call.end, number, answers, body)
            del self._pending[:size]
            self._began = call.began


def _unpacked(content: bytes) -> dict[str, Any]:
    (flags,) = struct.unpack_from("<I", content)
    end = len(content) - (_CHECKSUM if flags & _CHECKSUM_PRESENT else 0)
    body: dict[str, Any] = {}
    at = 4
    while at < end:
        kind = content[at]
        at += 1
        (size,) = struct.unpack_from("<i", content, at)
        section = content[at : at + size]
        if kind == 0:
            body |= bson.decode(section)
        else:
            name, _, documents = section[4:].partition(b"\0")
            body[name.decode()] = bson.decode_all(documents)
        at += size
    return body


def of_file(calls: Sequence[Call], names: Iterable[str], path: str) -> list[Call]:
    """The calls of these names that were done on this file."""
    wanted = set(names)
    return [call for call in calls if call.name in wanted and call.done and call.path == path]
