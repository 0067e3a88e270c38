"""XML of the S3 API: documents from nested values, and typed reading of what clients send.

Parsing is expat's, which the standard library brings, with handlers that refuse whatever S3 documents never have.
That is all that defusedxml would add, and a bound on depth besides.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn, TypeAlias
from urllib.parse import quote
from xml.parsers import expat

from app.s3.errors import S3Error

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
XSI = "http://www.w3.org/2001/XMLSchema-instance"

MAX_DEPTH = 32
"""Elements within each other. The deepest documents of the API reference have less than ten."""

MAX_ELEMENTS = 100_000
"""Elements of a document: ten thousand parts have half as many. Small ones take many times their text in memory."""


Content: TypeAlias = "str | int | bool | datetime | Mapping[str, Value] | Children"
"""Text, or the children of an element by their names."""

Value: TypeAlias = "Content | Attributed | Sequence[Value] | None"
"""A sequence is an element over and over, None no element at all."""


@dataclass(frozen=True, slots=True)
class Children:
    """The children of an element, of several names by turns."""

    pairs: Sequence[tuple[str, Value]]


@dataclass(frozen=True, slots=True)
class Attributed:
    """An element's content with attributes, as a `Grantee` has."""

    attributes: Mapping[str, str]
    content: Content


def document(root: str, content: Content | None, *, namespace: str = NAMESPACE) -> bytes:
    """A document in UTF-8 with an XML declaration. For `content` None, its root is empty.

    Text is any Unicode but surrogates (UnicodeEncodeError). Characters that XML 1.0 can't carry become character
    references to them (`&#x1;`), as S3 answers where no encoding-type is asked for. Strict parsers refuse those:
    whoever lists keys with such characters asks for `encoding-type=url`. Moments are in UTC, in milliseconds.
    """
    pieces = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    attributes = {"xmlns": namespace} if namespace else {}
    _write(pieces, root, Attributed(attributes, "" if content is None else content))
    return "".join(pieces).encode()


def error_document(error: S3Error, method: str, resource: str, request_id: str, host_id: str) -> bytes:
    """The body of an error's answer: none for HEAD and for 304 (RFC 9110, sections 9.3.2 and 15.4.5). Any parser reads
    it: characters that XML 1.0 can't carry are percent-encoded."""
    if method == "HEAD" or error.status == 304:
        return b""
    elements: dict[str, str] = {"Code": error.code, "Message": error.message, **error.details}
    elements |= {"Resource": resource, "RequestId": request_id, "HostId": host_id}
    return document("Error", {name: _carried(value) for name, value in elements.items()}, namespace="")


def timestamp(moment: datetime) -> str:
    """As S3 writes it: `2006-02-03T16:45:09.000Z`. Raises ValueError for a moment without a time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone.")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def parse_timestamp(text: str) -> datetime:
    """The moment, in UTC, that an ISO 8601 date with its time or without it says; in UTC unless it says otherwise.
    Raises ValueError."""
    moment = datetime.fromisoformat(text.strip())
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is beyond the calendar in UTC.") from error


_MARKUP: Mapping[str, str] = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}

_NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 can't carry (section 2.2)."""


def _carried(text: str) -> str:
    return _NO_CHARACTER.sub(lambda found: quote(found[0], errors="surrogatepass"), text)


# What has a meaning in markup, what XML 1.0 can't carry, and CR, which parsers turn into LF (section 2.11).
_ESCAPED = re.compile('[&<>"]|[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff\ud800-\udfff]')


def _escape(text: str) -> str:
    return _ESCAPED.sub(lambda found: _MARKUP.get(found[0]) or f"&#x{ord(found[0]):x};", text)


def _write(pieces: list[str], name: str, value: Value) -> None:
    if value is None:
        return
    if isinstance(value, Sequence) and not isinstance(value, str):
        for one in value:
            _write(pieces, name, one)
        return
    attributes: Mapping[str, str] = {}
    if isinstance(value, Attributed):
        attributes, value = value.attributes, value.content
    opening = [name, *(f'{key}="{_escape(text)}"' for key, text in attributes.items())]
    pieces.append(f"<{' '.join(opening)}>")
    if isinstance(value, Mapping | Children):
        for key, child in value.pairs if isinstance(value, Children) else value.items():
            _write(pieces, key, child)
    else:
        pieces.append(_escape(_text(value)))
    pieces.append(f"</{name}>")


def _text(value: str | int | bool | datetime) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return timestamp(value) if isinstance(value, datetime) else str(value)


@dataclass(slots=True)
class Element:
    """An element that was read. Names are without their namespace. It has children or text, never both.

    Every method raises S3Error MalformedXML where the element is not as it is asked for.
    """

    name: str
    attributes: Mapping[str, str]
    children: list[Element]
    content: str = ""

    def all(self, name: str) -> list[Element]:
        return [child for child in self.children if child.name == name]

    def maybe(self, name: str) -> Element | None:
        found = self.all(name)
        if len(found) > 1:
            _malformed(f"{self.name} may have one {name}, not {len(found)}.")
        return found[0] if found else None

    def one(self, name: str) -> Element:
        return self.maybe(name) or _malformed(f"{self.name} needs a {name}.")

    def only(self, *names: str) -> None:
        """Refuse any other child."""
        for child in self.children:
            if child.name not in names:
                _malformed(f"{self.name} may not have a {child.name}.")

    def text(self, name: str) -> str:
        return self.one(name).own_text()

    def maybe_text(self, name: str) -> str | None:
        found = self.maybe(name)
        return None if found is None else found.own_text()

    def integer(self, name: str) -> int:
        return _integer(name, self.text(name))

    def maybe_integer(self, name: str) -> int | None:
        text = self.maybe_text(name)
        return None if text is None else _integer(name, text)

    def flag(self, name: str) -> bool:
        """A truth value; false where there is none."""
        text = (self.maybe_text(name) or "false").strip().lower()
        if text not in ("true", "false", "1", "0"):
            _malformed(f"{name} must be true or false.")
        return text in ("true", "1")

    def choice(self, name: str, options: Collection[str]) -> str:
        text = self.text(name).strip()
        return text if text in options else _malformed(f"{name} must be one of {', '.join(options)}.")

    def maybe_moment(self, name: str) -> datetime | None:
        """An ISO 8601 date, with its time or without; in UTC unless it says otherwise."""
        text = self.maybe_text(name)
        try:
            return None if text is None else parse_timestamp(text)
        except ValueError:
            _malformed(f"{name} must be a date as 2006-02-03T16:45:09.000Z.")

    def moment(self, name: str) -> datetime:
        return self.maybe_moment(name) or _malformed(f"{self.name} needs a {name}.")

    def own_text(self) -> str:
        return _malformed(f"{self.name} must be text.") if self.children else self.content


def parse(body: bytes, root: str, limit: int) -> Element:
    """The root element of a document, which must be called `root`, in any namespace or none.

    Takes UTF-8 (with a BOM or without) of at most `limit` bytes, and no document type, entities of its own or
    processing instructions. Anything else raises S3Error MalformedXML. A megabyte takes a tenth of a second: a long
    document is to be read in a thread.
    """
    if len(body) > limit:
        _malformed(f"It is longer than {limit} bytes.")
    reader = _Reader()
    try:
        reader.parser.Parse(body, True)
    except expat.ExpatError as error:
        _malformed(f"{expat.ErrorString(error.code)} in line {error.lineno}.")
    (element,) = reader.outside.children
    return element if element.name == root else _malformed(f"Its root must be {root}, not {element.name}.")


class _Reader:
    def __init__(self) -> None:
        self.outside = Element("", {}, [])
        self._open: list[tuple[Element, list[str]]] = [(self.outside, [])]
        self._count = 0
        self.parser = parser = expat.ParserCreate("utf-8", " ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = lambda *_: _malformed("It has a document type.")
        parser.ProcessingInstructionHandler = lambda *_: _malformed("It has a processing instruction.")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) > MAX_DEPTH:
            _malformed(f"It is deeper than {MAX_DEPTH} elements.")
        self._count += 1
        if self._count > MAX_ELEMENTS:
            _malformed(f"It has more than {MAX_ELEMENTS} elements.")
        element = Element(_local(name), {_local(key): text for key, text in attributes.items()}, [])
        self._open[-1][0].children.append(element)
        self._open.append((element, []))

    def _end(self, _name: str) -> None:
        element, pieces = self._open.pop()
        text = "".join(pieces)
        if not element.children:
            element.content = text
        elif text.strip():
            _malformed(f"{element.name} has text beside its elements.")

    def _data(self, text: str) -> None:
        self._open[-1][1].append(text)

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding and encoding.lower() != "utf-8":
            _malformed(f"It is in {encoding}, not in UTF-8.")


def _local(name: str) -> str:
    """A name without its namespace, which expat writes before a space."""
    return name.rpartition(" ")[2]


def _integer(name: str, text: str) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", text):
        _malformed(f"{name} must be an integer.")
    return int(text)


def _malformed(reason: str) -> NoReturn:
    raise S3Error(
        "MalformedXML",
        f"The XML you provided was not well-formed or did not validate against our published schema: {reason}",
    )
