"""The form parser: what goes into a form comes out, however it is cut, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from multipart import MultipartError, MultipartSegment, PushMultipartParser  # type: ignore[import-untyped]
from streaming_form_data import ParseFailedException, StreamingFormDataParser
from streaming_form_data.targets import BaseTarget

from app.errors import BadForm, NoFilePart, NotMultipart
from app.streams.multipart import (
    DEFAULT_CONTENT_TYPE,
    MAX_BESIDE,
    MAX_PARTS,
    Event,
    Field,
    FileBegin,
    FileData,
    FileEnd,
    FormParser,
)

BOUNDARY = b"b-42"
DELIMITER = b"\r\n--" + BOUNDARY
CLOSE = DELIMITER + b"--"
CONTENT_TYPE = "multipart/form-data; boundary=b-42"


@dataclass(frozen=True)
class Part:
    body: bytes
    disposition: bytes = b'form-data; name="file"; filename="f"'
    content_type: bytes | None = None

    def encode(self) -> bytes:
        kind = b"" if self.content_type is None else b"\r\nContent-Type: " + self.content_type
        return b"\r\nContent-Disposition: " + self.disposition + kind + b"\r\n\r\n" + self.body


File = tuple[str, str, bytes]


def form(parts: Sequence[Part]) -> bytes:
    return b"".join(DELIMITER + part.encode() for part in parts)[2:] + (CLOSE if parts else CLOSE[2:])


def cut(body: bytes, at: Sequence[int]) -> Iterator[bytes]:
    edges = [0, *sorted(at), len(body)]
    return (body[start:stop] for start, stop in pairwise(edges))


def collect(events: Sequence[Event]) -> list[File]:
    """Complete files; asserts that the events come in their order."""
    files: list[File] = []
    opened: FileBegin | None = None
    body = b""
    for event in events:
        if isinstance(event, FileBegin):
            assert opened is None
            opened, body = event, b""
        elif isinstance(event, FileData):
            assert opened is not None
            assert event.data
            body += event.data
        else:
            assert opened is not None
            files.append((opened.name, opened.content_type, body))
            opened = None
    return files


def parse(pieces: Iterator[bytes] | Sequence[bytes], content_type: str = CONTENT_TYPE) -> list[File]:
    parser = FormParser(content_type)
    events = [event for piece in pieces for event in parser.feed(piece)]
    parser.finish()
    return collect(events)


def only(body: bytes) -> File:
    files = parse([body])
    assert len(files) == 1
    return files[0]


def oracle(body: bytes) -> list[tuple[str, str, bytes]]:
    """(field, file name, body) of every part, as the reference parser sees it."""
    parts: list[tuple[str, str, bytes]] = []
    with PushMultipartParser(BOUNDARY, max_header_size=MAX_BESIDE, max_header_count=1000) as parser:
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                parts.append((event.name, event.filename or "", b""))
            elif event:
                parts[-1] = (*parts[-1][:2], parts[-1][2] + event)
    return parts


def without_delimiter(body: bytes) -> bytes:
    while DELIMITER in body:
        body = body.replace(DELIMITER, b"")
    return body


TOKENS = [
    *(
        b"\r",
        b"\n",
        b"-",
        b"--",
        b"\r\n",
        b"\r\n-",
        b"\r\n--",
        b"b",
        b"b-",
        b"b-42",
        b"-b-42--",
        b"--b-42\r\n",
    ),
    *(b"\r\n--b-4", b"\r\n--b-43", b"--b-42--", b"\n--b-42--", b"\r\n\r\n", b"Content-Disposition: x"),
    *(b"x" * 1500, b"\r\n" * 700, b"-" * 1100, b"\x00\xff"),
]
bodies = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=20), max_size=12).map(b"".join).map(without_delimiter)
files_in = st.builds(Part, bodies)
fields_in = st.builds(Part, bodies, st.just(b'form-data; name="other"; filename="not a file"'))
forms = st.lists(files_in | fields_in, max_size=6)
cuts = st.lists(st.integers(0, 20_000), max_size=12)
epilogues = st.sampled_from(
    [b"", b"\r\n", b"\r\nxyz", b"x", b"-", b"--\r\n", CLOSE, CLOSE + b"\r\n", form([Part(b"late")])]
)


@given(forms, cuts, epilogues)
@settings(deadline=None)
def test_every_file_comes_out_as_it_went_in(parts: list[Part], at: list[int], epilogue: bytes) -> None:
    body = form(parts) + epilogue
    wanted = [("f", DEFAULT_CONTENT_TYPE, part.body) for part in parts if b'"file"' in part.disposition]
    at = [edge for edge in at if edge < len(body)]
    if wanted:
        assert parse(cut(body, at)) == wanted
    else:
        with pytest.raises(NoFilePart):
            parse(cut(body, at))


@given(st.lists(files_in | fields_in, max_size=3), epilogues)
@settings(deadline=None, max_examples=40)
def test_single_bytes_give_the_same_as_one_piece(parts: list[Part], epilogue: bytes) -> None:
    body = form([*parts, Part(b"last")]) + epilogue
    assert parse(cut(body, range(1, len(body)))) == parse([body])


# Where the library alone goes wrong: it overlooks a closing boundary behind which three more bytes
# lie in the same piece, and in a second part takes "-", a cut and "-b-42--" byte by byte for one.
ILL = [
    (form([Part(b"good")]) + b"\r\nmore" + CLOSE, [b"good"]),
    (form([Part(b"good")]) + b"\r\nmore" + DELIMITER + b"\r\n", [b"good"]),
    (form([Part(b"good")]) + b"xyz-", [b"good"]),
    (form([Part(b"one"), Part(b"-" + b"x" * 9 + b"-b-42-- tail")]), [b"one", b"-" + b"x" * 9 + b"-b-42-- tail"]),
    (form([Part(b"one"), Part(b"--b-42-- tail")]), [b"one", b"--b-42-- tail"]),
]


@pytest.mark.parametrize(("body", "wanted"), ILL)
def test_nothing_is_made_of_what_misleads_the_library(body: bytes, wanted: list[bytes]) -> None:
    for first in range(len(body)):
        for second in (first, first + 1, first + 2, first + 7):
            assert [file[2] for file in parse(cut(body, [first, min(second, len(body))]))] == wanted
        assert [file[2] for file in parse(cut(body, range(first, len(body))))] == wanted


@given(forms, st.data())
@settings(deadline=None)
def test_a_truncated_form_is_never_complete(parts: list[Part], data: st.DataObject) -> None:
    body = form([*parts, Part(b"last")])
    short = body[: data.draw(st.integers(0, len(body) - 1))]
    parser = FormParser(CONTENT_TYPE)
    events = parser.feed(short)
    files = [part.body for part in [*parts, Part(b"last")] if b'"file"' in part.disposition]
    done = [file[2] for file in collect(events)]
    assert done == files[: len(done)]
    assert len(done) < len(files)
    with pytest.raises(BadForm):
        parser.finish()


damage = st.lists(st.tuples(st.integers(0, 8000), st.integers(0, 40), st.sampled_from(TOKENS) | st.binary(max_size=9)))


@given(forms, damage, cuts)
@settings(deadline=None, max_examples=300)
def test_damaged_forms_are_refused_or_read_as_the_reference_reads_them(
    parts: list[Part], hits: list[tuple[int, int, bytes]], at: list[int]
) -> None:
    body = form([*parts, Part(b"last")])
    for start, length, new in hits:
        at_byte = start % (len(body) + 1)
        body = body[:at_byte] + new + body[at_byte + length :]
    try:
        ours = parse(cut(body, [edge for edge in at if edge < len(body)]))
    except (BadForm, NoFilePart):
        return
    try:
        reference = oracle(body)
    except MultipartError as error:  # it wants UTF-8 in headers that nobody reads, too
        if not isinstance(error.args[-1], UnicodeDecodeError):
            raise
        return
    assert [(name, data) for name, _, data in ours] == [p[1:] for p in reference if p[0] == "file"]


@given(forms)
@settings(deadline=None)
def test_sound_forms_are_read_as_the_reference_reads_them(parts: list[Part]) -> None:
    body = form([*parts, Part(b"last")])
    assert [(file[0], file[2]) for file in parse([body])] == [p[1:] for p in oracle(body) if p[0] == "file"]


@given(st.none() | st.text(max_size=80) | st.text(max_size=80).map("multipart/form-data;".__add__), st.binary())
@settings(deadline=None)
@example("multipart/form-data; boundary=b", b"--b\r\n" + bytes(range(256)) + b"\r\n\r\n\r\n--b--")
@example('multipart/form-data; boundary="', b"")
def test_garbage_raises_only_our_errors(content_type: str | None, body: bytes) -> None:
    try:
        parser = FormParser(content_type)
        parser.feed(body)
        parser.finish()
    except (BadForm, NoFilePart, NotMultipart):
        return
    assert b"file" in body


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(deadline=None)
@example(b"=?utf-8?q?=?=\"; filename*=utf-8''%ff")
@example(b"file\"; filename*=\"utf-8''%ff")
@example(b'file"; filename*=x')
@example(b'file"; filename*0="a"; filename*1=')
def test_garbage_headers_raise_only_our_errors(junk: bytes) -> None:
    for block in (junk, b'form-data; name="' + junk, b'form-data; name="file"; filename="' + junk + b'"'):
        try:
            parse([form([Part(b"x", block)])])
        except (BadForm, NoFilePart):
            continue


BOUNDARY_CHARACTERS = "0123456789abcXYZ'()+_,-./:=? "


@given(st.text(BOUNDARY_CHARACTERS, min_size=1, max_size=70))
@settings(deadline=None)
def test_a_boundary_that_is_taken_works(boundary: str) -> None:
    content_type = f'Multipart/Form-Data; charset=utf-8; boundary="{boundary}"'
    try:
        FormParser(content_type)
    except BadForm:
        assert boundary.endswith(" ") or "=?" in boundary
        return
    body = form([Part(b"x\r\n-y")]).replace(BOUNDARY, boundary.encode())
    assert parse([body], content_type) == [("f", DEFAULT_CONTENT_TYPE, b"x\r\n-y")]


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "multipart/mixed; boundary=b", "multipart/form-datax"]
)
def test_other_media_types_are_refused(content_type: str | None) -> None:
    with pytest.raises(NotMultipart):
        FormParser(content_type)


@pytest.mark.parametrize(
    "boundary", ["", '""', "x" * 71, "ü", '"a\tb"', '"a\r\nb"', "a; boundary=c", '"a', "a{b}", '"a "']
)
def test_bad_boundaries_are_refused(boundary: str) -> None:
    with pytest.raises(BadForm):
        FormParser("multipart/form-data; boundary=" + boundary)
    with pytest.raises(BadForm):
        FormParser("multipart/form-data")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b-42",
        b"--b-42\r\n",
        b"--b-43--",
        b"preamble\r\n" + form([Part(b"x")]),
        b"\n" + form([Part(b"x"), Part(b"y")]),
        b"-- b-42\r\n",
        b"--b-42\n",
        b"--b-42\r\n\r\nnameless\r\n--b-42--",
        b"--b-42\r\n--b-42--",
        b'--b-42\r\nContent-Disposition: attachment; name="file"\r\n\r\nx\r\n--b-42--',
        b'--b-42\r\nContent-Disposition: form-data; filename="f"\r\n\r\nx\r\n--b-42--',
        b'--b-42\r\nContent-Disposition: form-data; name="file"\n\nx\r\n--b-42--',
        b'--b-42\r\nContent-Disposition: form-data; name="file"; name="other"\r\n\r\nx\r\n--b-42--',
        b'--b-42\r\nContent-Disposition: form-data; name="file"; filename="\xff"\r\n\r\nx\r\n--b-42--',
        form([Part(b"x")]).replace(b"\r\n\r\n", b'\r\nContent-Disposition: form-data; name="y"\r\n\r\n'),
        form([Part(b"x", b"form-data; name=file; filename*=utf-8''%ff")]),
        form([Part(b"x" + DELIMITER + b" \r\ny")]),
        form([Part(b"x" + DELIMITER + b"-")]),
    ],
)
def test_garbled_forms_are_refused(body: bytes) -> None:
    for pieces in ([body], list(cut(body, range(1, len(body))))):
        with pytest.raises(BadForm):
            parse(pieces)


def test_a_form_without_files() -> None:
    for body in (form([]), form([]) + b"\r\n", form([Part(b"x", b'form-data; name="other"; filename="f"')])):
        with pytest.raises(NoFilePart):
            parse([body])


@pytest.mark.parametrize(
    "broken", [b"--b-42..", b"--b-42\r\n\r\n", form([Part(b"x")]) + b"x" * MAX_BESIDE * 2, b"x" * 99]
)
def test_after_an_error_everything_is_refused(broken: bytes) -> None:
    parser = FormParser(CONTENT_TYPE)
    for piece in (broken, b"x", form([Part(b"x")])):
        with pytest.raises(BadForm):
            parser.feed(piece)
    with pytest.raises(BadForm):
        parser.finish()


class Astray(StreamingFormDataParser):  # type: ignore[misc]  # the library has no types
    """Stands for a library that goes wrong: at the byte "!" it does what `how` says."""

    how = ""

    def register(self, name: str, target: BaseTarget, matches: object = None) -> None:
        self.target = target
        super().register(name, target, matches)

    def data_received(self, data: bytes) -> None:
        if b"!" not in data:
            super().data_received(data)
        elif self.how == "never ends":
            self.target.data_received(data.removesuffix(DELIMITER))
        elif self.how == "ends early":
            self.target.finish()
        elif self.how == "adds a byte":
            super().data_received(data.replace(b"!", b"!!"))
        elif self.how == "fails":
            raise ParseFailedException


@pytest.mark.parametrize("how", ["ends early", "adds a byte", "loses bytes", "never ends", "fails"])
def test_a_library_gone_astray_completes_no_file(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(Astray, "how", how)
    monkeypatch.setattr("app.streams.multipart.StreamingFormDataParser", Astray)
    assert only(form([Part(b"well")]))[2] == b"well"
    for size in (1, 5000):
        with pytest.raises(BadForm):
            parse([form([Part(b"a" * size + b"!" + b"a" * size)])])


def test_a_boundary_inside_a_part_ends_no_file() -> None:
    parser = FormParser(CONTENT_TYPE)
    events = parser.feed(form([Part(b"x")])[:-2])
    assert FileEnd() not in events
    with pytest.raises(BadForm):
        parser.feed(b"zz")


def test_the_field_is_the_callers_choice() -> None:
    parser = FormParser(CONTENT_TYPE, field="other")
    body = form([Part(b"1"), Part(b"2", b"form-data; name=other; filename=g.txt")])
    assert collect(parser.feed(body)) == [("g.txt", DEFAULT_CONTENT_TYPE, b"2")]
    parser.finish()


@pytest.mark.parametrize("value", [b"", b"x", b"\r\n", b"\r\n--b-4", b"--b-42", bytes(range(256)), b"x" * MAX_BESIDE])
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_fields_are_kept_where_that_is_wanted(value: bytes, size: int) -> None:
    parts = [
        Part(value, b'form-data; name="a"'),
        Part(b"content"),
        Part(value[::-1].replace(DELIMITER, b""), b'form-data; name="b"'),
    ]
    whole = form(parts)
    parser = FormParser(CONTENT_TYPE, keep_fields=True)
    events = [event for at in range(0, len(whole), size) for event in parser.feed(whole[at : at + size])]
    parser.finish()
    fields = [event for event in events if isinstance(event, Field)]
    assert fields == [Field("a", value), Field("b", parts[2].body)]
    assert collect([event for event in events if not isinstance(event, Field)])[0][2] == b"content"


def test_an_empty_line_before_the_form_and_folded_headers_are_read() -> None:
    folded = b'form-data;\r\n name="file";\r\n\tfilename="f"'
    assert only(b"\r\n" + form([Part(b"x", folded)]))[::2] == ("f", b"x")


# Limits: how many bytes are taken before the refusal.


def taken(piece: bytes, times: int, start: bytes = b"") -> int:
    """Bytes that a parser takes of `start` and `times` pieces until it refuses; it must refuse."""
    parser = FormParser(CONTENT_TYPE)
    parser.feed(start)
    for count in range(times):
        try:
            parser.feed(piece)
        except BadForm:
            return len(start) + count * len(piece)
    raise AssertionError("never refused")


HEADER = b'--b-42\r\nContent-Disposition: form-data; name="%s"\r\n'


@pytest.mark.parametrize("line", [b"X-Header: y\r\n", b"x" * 1024, b"a:\r\n", b" \r\n"])
def test_endless_headers_are_refused_early(line: bytes) -> None:
    assert taken(line, (16 << 20) // len(line), HEADER % b"file") <= MAX_BESIDE + 1100


def test_one_huge_header_is_refused_at_once() -> None:
    assert taken(HEADER % b"file" + b"x" * (16 << 20), 1) == 0


def test_a_header_block_just_within_the_limit_is_read() -> None:
    name = b"n" * (MAX_BESIDE - 100)
    assert only(form([Part(b"x", b'form-data; name="file"; filename="' + name + b'"')]))[0] == name.decode()


def test_a_body_that_never_begins_a_form_is_refused_at_once() -> None:
    assert taken(b"x", 1000) <= 10
    with pytest.raises(BadForm, match="begin"):
        parse([b"x" * 99])


def test_many_parts_are_refused_early() -> None:
    tiny = HEADER % b"file" + b"\r\n\r\n"
    assert taken(tiny, 200_000) == MAX_PARTS * len(tiny)
    assert len(parse([tiny * MAX_PARTS + b"--b-42--"])) == MAX_PARTS
    with pytest.raises(BadForm):
        parse([tiny * (MAX_PARTS + 1) + b"--b-42--"])


@pytest.mark.parametrize("start", [HEADER % b"other" + b"\r\n", form([Part(b"x")])])
def test_what_is_no_file_is_limited(start: bytes) -> None:
    assert MAX_BESIDE - 1000 <= taken(b"x" * 1000, 100, start) <= MAX_BESIDE + 1000


def test_the_limit_holds_for_each_field_alone() -> None:
    field = Part(b"x" * (MAX_BESIDE - 100), b"form-data; name=other")
    assert only(form([field, field, Part(b"y"), field]))[2] == b"y"


def test_memory_stays_small() -> None:
    parser = FormParser(CONTENT_TYPE)
    parser.feed(HEADER % b"file" + b"\r\n")
    for piece in (b"x" * 65536, b"\r\n--b-4" * 9000, b"-" * 4000):
        given_back = sum(len(event.data) for event in parser.feed(piece) if isinstance(event, FileData))
        assert given_back >= len(piece) - 2048


# Names and content types.


def browser_escape(name: str) -> bytes:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").encode()


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(names, cuts)
@settings(deadline=None)
@example("../../x", [])
@example("C:\\dir\\new.txt", [])
@example("ends in a backslash\\", [])
@example("%41%20%", [70])
@example('a; name="other"\r\nContent-Type: evil', [])
@example("=?utf-8?q?no_word?=", [])
@example("\x00\x01\x7f\x85\u2028\u202e\t", [])
@example("n" * 5000, [60, 100])
@example("\N{GRINNING FACE}" * 5000, [20_000, 20_001, 20_002])
def test_names_as_browsers_write_them(name: str, at: list[int]) -> None:
    assume(not any(escape in name for escape in ("%22", "%0D", "%0A")))
    body = form([Part(b"x", b'form-data; name="file"; filename="' + browser_escape(name) + b'"')])
    assert parse(cut(body, [edge for edge in at if edge < len(body)])) == [(name, DEFAULT_CONTENT_TYPE, b"x")]


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (b"", ""),
        (b'; filename=""', ""),
        (b"; filename=plain.txt", "plain.txt"),
        (b";filename = plain.txt ;", "plain.txt"),
        (b'; FileName="x"', "x"),
        (b'; filename="a\\"b\\\\c"', 'a"b\\c'),
        (b'; filename="a\\\\b"', "a\\\\b"),
        (b'; filename="a\\"; size="3"', "a\\"),
        (b"; filename*=UTF-8''%e2%82%ac%20x", "\N{EURO SIGN} x"),
        (b"; filename*=iso-8859-1'de'%fc", "\xfc"),
        (b"; filename*=UTF-8''star; filename=plain", "plain"),
    ],
)
def test_names_as_others_write_them(parameters: bytes, name: str) -> None:
    assert only(form([Part(b"x", b"Form-Data; name=file" + parameters)]))[0] == name


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b"text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        (b'Text/HTML;  profile="a;b" ', 'Text/HTML;  profile="a;b"'),
        (b"x-unheard/of+json", "x-unheard/of+json"),
        (b"x/" + b"y" * 253, "x/" + "y" * 253),
        (b"x/" + b"y" * 254, DEFAULT_CONTENT_TYPE),
        (b"", DEFAULT_CONTENT_TYPE),
        (None, DEFAULT_CONTENT_TYPE),
        (b"plain", DEFAULT_CONTENT_TYPE),
        (b"text/\xc3\xbc", DEFAULT_CONTENT_TYPE),
        (b"text/\x00", DEFAULT_CONTENT_TYPE),
    ],
)
def test_the_content_type_is_kept_as_sent(sent: bytes | None, stored: str) -> None:
    assert only(form([Part(b"x", content_type=sent)]))[1] == stored


def test_headers_of_one_part_say_nothing_of_the_next() -> None:
    body = form([Part(b"1", content_type=b"text/plain"), Part(b"2", b'form-data; name="file"')])
    assert parse([body]) == [("f", "text/plain", b"1"), ("", DEFAULT_CONTENT_TYPE, b"2")]


def test_headers_may_stand_in_any_order() -> None:
    body = b"--b-42\r\ncontent-type: a/b\r\nX:z\r\nCONTENT-DISPOSITION:form-data;name=file\r\n\r\nx\r\n--b-42--"
    assert only(body) == ("", "a/b", b"x")
