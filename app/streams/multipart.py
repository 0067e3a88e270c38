"""The form parser: pieces of a multipart/form-data body in, the files in it out. Sans-io.

Follows RFC 7578 on top of RFC 2046, and reads names as the WHATWG encoding of forms writes them.
Bodies go through streaming-form-data, and only bodies: it has no limits and no end check, reads
part headers with the rewriting rules of e-mail, overlooks a closing boundary that three more bytes
follow, and keeps part of its search state from one part to the next, so that it can deliver wrong
bytes without an error. Therefore delimiters are found here too. Each file body gets a parser of its
own, under a constant header, in runs that stop behind the delimiter; and a body counts only if the
library ended it there and delivered exactly the bytes before it.

For targets that are not used here it also imports clients of all cloud stores that are installed: a fifth of
the time that a server takes to start. It gets an empty module instead of the one that does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from urllib.parse import unquote

from app.errors import BadForm, NoFilePart, NotMultipart

sys.modules["smart_open"] = ModuleType("smart_open")
from streaming_form_data import ParseFailedException, StreamingFormDataParser  # noqa: E402 - after the empty module
from streaming_form_data.targets import BaseTarget  # noqa: E402 - the same

del sys.modules["smart_open"]

MAX_PARTS = 1000
"""Parts of any kind in one form: bounds the work that a body of tiny parts causes."""

MAX_BESIDE = 64 << 10
"""Bytes of one thing that is no file: the headers of a part, another field, the epilogue."""

MAX_CONTENT_TYPE = 255
DEFAULT_CONTENT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class FileBegin:
    """A file opens. Both values are as the client sent them and not to be trusted.

    `name` is "" where there is none; it may be a path and hold any character. `content_type` keeps
    its parameters; where it is missing or unusable it is `DEFAULT_CONTENT_TYPE`.
    """

    name: str
    content_type: str


@dataclass(frozen=True, slots=True)
class FileData:
    """The next bytes of the file, never none."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnd:
    """All bytes of the file were delivered. The form may still turn out bad."""


Event = FileBegin | FileData | FileEnd


class FormParser:
    """Finds the files in one form: every part whose field name is `field`.

    For each file, `feed` returns one FileBegin, the FileData and one FileEnd, over any number of
    calls and in whatever pieces the body comes. Other fields are skipped. The form is good only if
    `finish` returns. After an error every further call raises BadForm.

    Raises NotMultipart for another media type, BadForm for a boundary that RFC 2046 forbids.
    """

    def __init__(self, content_type: str | None, *, field: str = "file") -> None:
        self._boundary = _boundary(content_type)
        self._delimiter = b"\r\n--" + self._boundary
        self._field = field
        self._stage: Callable[[bytes, int, list[Event]], int] = self._read_body
        self._seam = b"\r\n"  # a boundary at the very start is a delimiter as well
        self._head = bytearray()
        self._file: _FileBody | None = None
        self._parts = 0
        self._files = 0
        self._room = len(self._delimiter)  # for what is no file; at first, for no more than an empty line
        self._closed = False

    def feed(self, data: bytes) -> list[Event]:
        """Take the next piece. Raises BadForm for what is garbled or over a limit."""
        events: list[Event] = []
        at = 0
        try:
            while at < len(data):
                at = self._stage(data, at, events)
        except BadForm:
            self._closed = False
            self._stage = self._refuse
            raise
        return events

    def finish(self) -> None:
        """Raises BadForm unless the closing boundary was seen, NoFilePart where no file came."""
        if not self._closed:
            raise BadForm("The form ends before its closing boundary.")
        if not self._files:
            raise NoFilePart(f"The form has no file in a field named {self._field!r}.")

    # Each stage takes bytes of `data` from `at` on and returns the offset where the next one goes on.

    def _read_body(self, data: bytes, at: int, events: list[Event]) -> int:
        """A part's body and the delimiter behind it; at first, the delimiter that opens the form."""
        end = self._delimiter_end(data, at)
        stop = len(data) if end is None else end
        if self._file is None:
            self._skip(stop - at)
        else:
            run = data[at:stop]  # a whole `bytes` is not copied by slicing
            events.extend(map(FileData, self._file.feed(run)))
        if end is not None:
            self._stage = self._read_mark
        return stop

    def _read_mark(self, data: bytes, at: int, events: list[Event]) -> int:
        """The two bytes behind a delimiter, which tell whether another part follows."""
        stop = min(at + 2 - len(self._head), len(data))
        self._head += data[at:stop]
        if len(self._head) < 2:
            return stop
        mark = bytes(self._head)
        if mark not in (b"\r\n", b"--"):
            raise BadForm("The boundary of the form occurs inside a part.")
        if self._file is not None:
            events.extend(map(FileData, self._file.end(len(self._delimiter))))
            events.append(FileEnd())
            self._file = None
        self._room = MAX_BESIDE + len(self._delimiter)
        if mark == b"--":
            self._closed = True
            self._stage = self._read_epilogue
        else:
            self._stage = self._read_head
        return stop

    def _read_head(self, data: bytes, at: int, events: list[Event]) -> int:
        """A part's header block and the empty line behind it."""
        held = len(self._head)
        self._head += data[at : at + MAX_BESIDE - held]
        end = self._head.find(b"\r\n\r\n", max(held - 3, 0))
        if end < 0 and len(self._head) >= MAX_BESIDE:
            raise BadForm(f"The headers of a part exceed {MAX_BESIDE} bytes.")
        if end < 0:
            return len(data)
        self._open_part(bytes(self._head[2:end]), events)
        self._head.clear()
        self._stage = self._read_body
        return at + end + 4 - held

    def _read_epilogue(self, data: bytes, at: int, _events: list[Event]) -> int:
        self._skip(len(data) - at)
        return len(data)

    def _refuse(self, _data: bytes, _at: int, _events: list[Event]) -> int:
        raise BadForm("The form is broken.")

    def _open_part(self, block: bytes, events: list[Event]) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadForm(f"The form has more than {MAX_PARTS} parts.")
        headers = _headers(block)
        field, name = _disposition(headers.get(b"content-disposition", b""))
        if field == self._field:
            self._files += 1
            self._file = _FileBody(self._boundary)
            events.append(FileBegin(name, _content_type(headers.get(b"content-type", b""))))

    def _skip(self, size: int) -> None:
        self._room -= size
        if self._room < 0 and not self._parts:
            raise BadForm("The form does not begin with its boundary.")
        if self._room < 0:
            raise BadForm(f"A field of the form, or what follows the form, exceeds {MAX_BESIDE} bytes.")

    def _delimiter_end(self, data: bytes, at: int) -> int | None:
        """Where in `data` the next delimiter ends, if one ends there.

        It may have begun in earlier pieces: the last bytes of the body so far are kept in `_seam`.
        """
        keep = len(self._delimiter) - 1
        seam = self._seam + data[at : at + keep]
        if (found := seam.find(self._delimiter)) >= 0:
            found += at - len(self._seam)
        elif (found := data.find(self._delimiter, at)) < 0:
            self._seam = (seam if len(data) - at <= keep else data)[-keep:]
            return None
        self._seam = b""
        return found + len(self._delimiter)


class _HeaderValue(str):
    """A Content-Type that `email.policy` takes as it is, since it bears its header's name.

    The library finds the boundary in it with `email.message`. A value without a name would be taken
    apart by the rules of e-mail first, for each file, which costs more than all that is done here.
    """

    __slots__ = ()
    name = "content-type"


class _FileBody(BaseTarget):  # type: ignore[misc]  # the library has no types
    """One body, on its way through a parser of streaming-form-data that sees nothing else.

    The header before it is as short as can be: the library reads that one by the rules of e-mail too.
    """

    def __init__(self, boundary: bytes) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._fed = 0
        self._delivered = 0
        self._ended = False
        content_type = _HeaderValue(f'multipart/form-data;boundary="{boundary.decode("ascii")}"')
        self._parser = StreamingFormDataParser({"Content-Type": content_type})
        self._parser.register("b", self)
        self._push(b"--" + boundary + b"\r\nContent-Disposition:form-data;name=b\r\n\r\n")

    def feed(self, run: bytes) -> list[bytes]:
        """Take bytes of the body, and at last its delimiter; return what is surely body."""
        self._fed += len(run)
        return self._push(run)

    def end(self, delimiter_size: int) -> list[bytes]:
        """Close the body; the last run ended with its delimiter. Return the rest of it."""
        pieces = self._push(b"--")
        if not self._ended or self._delivered != self._fed - delimiter_size:
            raise BadForm("The body of a file does not end at its delimiter.")
        return pieces

    def on_data_received(self, chunk: bytes) -> None:
        if chunk:
            self._delivered += len(chunk)
            self._pieces.append(chunk)

    def on_finish(self) -> None:
        self._ended = True

    def _push(self, data: bytes) -> list[bytes]:
        self._pieces = []
        try:
            self._parser.data_received(data)
        except ParseFailedException as error:
            raise BadForm("The body of a file can't be parsed.") from error
        return self._pieces


# RFC 2046, but for "=?": the library's header parser would take it for an encoded word.
_BOUNDARY = re.compile(r"(?!.*=\?)[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_HEADER = re.compile(rf"({_WORD})[ \t]*+:[ \t]*+([^\r\n]*+)".encode())

# A quoted value ends at the first quote without a backslash before it, or, since browsers do not
# escape backslashes, at the first quote of all where the former reading makes no sense.
_PARAMETER = re.compile(
    rf";[ \t]*+(?:({_WORD})[ \t]*+=[ \t]*+"
    r'(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"[ \t]*+(?=;|\Z)|"([^"]*+)"[ \t]*+|([^";]*+)))?+(?=;|\Z)',
    re.DOTALL,
)
_EXTENDED = re.compile(r"(utf-8|iso-8859-1)'[^']*'(.*)", re.DOTALL | re.IGNORECASE)


def _boundary(content_type: str | None) -> bytes:
    media_type = (content_type or "").partition(";")[0].strip()
    if content_type is None or media_type.lower() != "multipart/form-data":
        raise NotMultipart("The body must be of the type multipart/form-data.")
    boundary = _parameters(content_type)[1].get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise BadForm("The Content-Type names no boundary, or not one of 1 to 70 permitted characters.")
    return boundary.encode("ascii")


def _headers(block: bytes) -> dict[bytes, bytes]:
    """The headers of a part by lower-case name. One that stands twice could be read two ways."""
    headers: dict[bytes, bytes] = {}
    lines = re.sub(rb"\r\n(?=[ \t])", b"", block).split(b"\r\n") if block else []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None or match[1].lower() in headers:
            raise BadForm("A part has a header that can't be read, or has it twice.")
        headers[match[1].lower()] = match[2].rstrip(b" \t")
    return headers


def _disposition(value: bytes) -> tuple[str, str]:
    """The field name and the file name in a Content-Disposition."""
    try:
        kind, parameters = _parameters(value.decode())
        if kind != "form-data" or "name" not in parameters:
            raise BadForm("A part does not name its field.")
        if "filename" not in parameters and "filename*" in parameters:
            parameters["filename"] = _extended(parameters["filename*"])
    except UnicodeDecodeError as error:
        raise BadForm("The name of a part is not in UTF-8.") from error
    return parameters["name"], parameters.get("filename", "")


def _parameters(value: str) -> tuple[str, dict[str, str]]:
    """Split `kind; name=value; name="value"`: the kind and the names in lower case."""
    kind, separator, rest = value.partition(";")
    rest = separator + rest
    parameters: dict[str, str] = {}
    at = 0
    while at < len(rest):
        match = _PARAMETER.match(rest, at)
        if match is None or (match[1] and match[1].lower() in parameters):
            raise BadForm("The parameters of a header can't be read, or one stands twice.")
        at = match.end()
        if match[1]:
            quoted = match[2] if match[2] is not None else match[3]
            parameters[match[1].lower()] = match[4].rstrip() if quoted is None else _unescape(quoted)
    return kind.strip().lower(), parameters


def _unescape(quoted: str) -> str:
    """Undo the escapes of browsers (only %22, %0D and %0A), or of curl where a \\" shows them."""
    if '\\"' in quoted:
        return re.sub(r'\\(["\\])', r"\1", quoted)
    return quoted.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _extended(value: str) -> str:
    """Decode an extended value (RFC 5987). Raises UnicodeDecodeError."""
    match = _EXTENDED.fullmatch(value)
    if match is None:
        raise BadForm("The extended name of a file can't be read.")
    return unquote(match[2], encoding=match[1], errors="strict")


def _content_type(value: bytes) -> str:
    usable = len(value) <= MAX_CONTENT_TYPE and b"/" in value and all(0x20 <= byte < 0x7F for byte in value)
    return value.decode("ascii") if usable else DEFAULT_CONTENT_TYPE
