"""XML in and out: what S3 clients send and read, and what nobody may send."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.s3.errors import S3Error
from app.s3.xml import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    NAMESPACE,
    XSI,
    Attributed,
    Children,
    Content,
    Element,
    document,
    error_document,
    parse,
)

XML_1_0 = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r\x7f\x85<>&\"']")
)


def read(body: str | bytes, root: str = "a", limit: int = 10_000) -> Element:
    return parse(body.encode() if isinstance(body, str) else body, root, limit)


def written(content: Content | None) -> str:
    """What stands within the root element."""
    text = document("r", content, namespace="").decode()
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<r>')
    assert text.endswith("</r>")
    return text.partition("<r>")[2][: -len("</r>")]


def refused(body: str | bytes) -> str:
    with pytest.raises(S3Error) as caught:
        read(body)
    assert (caught.value.code, caught.value.status) == ("MalformedXML", 400)
    return caught.value.message.partition("schema: ")[2]


def test_children_of_several_names_keep_their_order() -> None:
    assert written(Children([("a", 1), ("b", {"c": 2}), ("a", None), ("a", [3, 4])])) == (
        "<a>1</a><b><c>2</c></b><a>3</a><a>4</a>"
    )
    assert written({"r": Children([])}) == "<r></r>"


def test_values_become_elements() -> None:
    content: Content = {
        "Name": "a",
        "Truth": True,
        "Count": 5,
        "When": datetime(2006, 2, 3, 16, 45, 9, 999, UTC),
        "Nothing": None,
        "Empty": "",
        "Contents": [{"Key": "x"}, {"Key": "y"}],
        "None": [],
    }
    assert written(content) == (
        "<Name>a</Name><Truth>true</Truth><Count>5</Count><When>2006-02-03T16:45:09.000Z</When><Empty></Empty>"
        "<Contents><Key>x</Key></Contents><Contents><Key>y</Key></Contents>"
    )


def test_moments_are_in_utc() -> None:
    assert written(datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))) == "2025-12-31T23:00:00.000Z"
    with pytest.raises(ValueError, match="no time zone"):
        written(datetime.fromisoformat("2026-01-01T00:00:00"))


def test_the_root_has_the_namespace_of_s3() -> None:
    assert document("LocationConstraint", None) == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        b'<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>'
    )


def test_attributes() -> None:
    grantee = Attributed({"xmlns:xsi": XSI, "xsi:type": 'A"<'}, {"ID": "1"})
    assert written({"Grantee": grantee}) == f'<Grantee xmlns:xsi="{XSI}" xsi:type="A&quot;&lt;"><ID>1</ID></Grantee>'
    assert read(document("a", {"Grantee": grantee})).one("Grantee").attributes == {"type": 'A"<'}


@given(XML_1_0)
def test_text_survives_any_parser(text: str) -> None:
    body = document("a", {"b": text})
    assert ElementTree.fromstring(body).findtext(f"{{{NAMESPACE}}}b") == text
    assert read(body, limit=len(body)).text("b") == text


def test_characters_beyond_xml_become_references() -> None:
    assert written("]]>") == "]]&gt;"
    assert written("\x00\x01\x1f\x7f\ufffe\uffff\r\t\n") == "&#x0;&#x1;&#x1f;\x7f&#xfffe;&#xffff;&#xd;\t\n"
    with pytest.raises(UnicodeEncodeError):
        document("r", "\ud800")


@pytest.mark.parametrize(
    "body",
    [
        '<a xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><b>x</b></a>',
        '<s:a xmlns:s="urn:any"><s:b>x</s:b></s:a>',
        "<a><b>x</b></a>",
        '\ufeff<?xml version="1.0" encoding="utf-8" standalone="yes"?>\n<a>\n  <b>x</b>\n</a>\n',
        "<a><!-- y --><b><![CDATA[x]]></b></a>",
        "<a><b>&#120;</b></a>",
    ],
)
def test_the_same_document_in_other_dress(body: str) -> None:
    assert read(body).text("b") == "x"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "no element found"),
        ("<a>", "no element found"),
        ("<a/><a/>", "junk after document element"),
        ("<b/>", "root must be a"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "document type"),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1/"><a/>', "document type"),
        ("<a>&x;</a>", "undefined entity"),
        ('<?xml-stylesheet href="x"?><a/>', "processing instruction"),
        ("<a/><?x?>", "processing instruction"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><a/>', "not in UTF-8"),
        ("<a>" * (MAX_DEPTH + 1) + "</a>" * (MAX_DEPTH + 1), "deeper"),
        (f"<a>{' ' * 10_000}</a>", "longer than 10000 bytes"),
        ("<a>x<b/></a>", "text beside"),
        ("<a><b/>x</a>", "text beside"),
        ("<a>&#1;</a>", "invalid character"),
        (b"<a>\xff</a>", "invalid token"),
        (b"<a>\xed\xa0\x80</a>", "invalid token"),
        ("<x:a/>", "unbound prefix"),
    ],
)
def test_what_is_refused(body: str | bytes, reason: str) -> None:
    assert reason in refused(body)


def test_documents_of_too_many_elements() -> None:
    most = b"<a>" + b"<b/>" * (MAX_ELEMENTS - 1)
    assert len(parse(most + b"</a>", "a", 1 << 20).children) == MAX_ELEMENTS - 1
    with pytest.raises(S3Error, match=f"more than {MAX_ELEMENTS} elements"):
        parse(most + b"<b/></a>", "a", 1 << 20)


def test_the_deepest_document() -> None:
    read("<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH)


@given(st.binary(max_size=200) | st.text("<>a&;!?[]-/= '\"x", max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        outcome = read(body).name
    except S3Error as error:
        outcome = error.code
    assert outcome in ("a", "MalformedXML")


def test_children_are_read_by_type() -> None:
    element = read("<a><s> t </s><i> -7 </i><t>TRUE</t><f>0</f><c>Enabled</c><d>2026-01-02T03:04:05.5Z</d><e/></a>")
    assert element.text("s") == " t "
    assert element.integer("i") == element.maybe_integer("i") == -7
    assert element.flag("t")
    assert not element.flag("f")
    assert not element.flag("absent")
    assert element.choice("c", ("Enabled", "Suspended")) == "Enabled"
    assert element.moment("d") == datetime(2026, 1, 2, 3, 4, 5, 500_000, UTC)
    assert element.text("e") == ""
    assert [element.maybe("x"), element.maybe_text("x")] == [None, None]
    assert [element.maybe_integer("x"), element.maybe_moment("x")] == [None, None]
    element.only("s", "i", "t", "f", "c", "d", "e")


def test_a_date_without_time_or_zone_is_in_utc() -> None:
    assert read("<a><d>2026-01-02</d></a>").moment("d") == datetime(2026, 1, 2, tzinfo=UTC)


def test_children_that_are_repeated() -> None:
    element = read("<a><b>1</b><c/><b>2</b></a>")
    assert [child.own_text() for child in element.all("b")] == ["1", "2"]
    with pytest.raises(S3Error, match="a may have one b, not 2"):
        element.one("b")


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        (lambda a: a.one("x"), "a needs a x"),
        (lambda a: a.text("x"), "a needs a x"),
        (lambda a: a.text("nested"), "nested must be text"),
        (lambda a: a.integer("word"), "word must be an integer"),
        (lambda a: a.integer("long"), "long must be an integer"),
        (lambda a: a.flag("word"), "word must be true or false"),
        (lambda a: a.choice("word", ("x", "y")), "word must be one of x, y"),
        (lambda a: a.moment("word"), "word must be a date"),
        (lambda a: a.moment("x"), "a needs a x"),
        (lambda a: a.only("nested", "word"), "a may not have a long"),
    ],
)
def test_children_that_are_not_as_asked_for(reading: Callable[[Element], object], reason: str) -> None:
    element = read(f"<a><nested><b/></nested><word>w</word><long>{'9' * 19}</long></a>")
    with pytest.raises(S3Error, match=reason) as caught:
        reading(element)
    assert caught.value.code == "MalformedXML"


def test_error_documents() -> None:
    error = S3Error("NoSuchKey", "The specified key does not exist.", Key="a&b")
    assert error_document(error, "GET", "/bucket/a&b", "R1", "H1") == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
        b"<Message>The specified key does not exist.</Message><Key>a&amp;b</Key><Resource>/bucket/a&amp;b</Resource>"
        b"<RequestId>R1</RequestId><HostId>H1</HostId></Error>"
    )


def test_answers_without_a_document() -> None:
    assert error_document(S3Error("NoSuchKey", "x"), "HEAD", "/b/k", "R", "H") == b""
    assert error_document(S3Error("NotModified", "x"), "GET", "/b/k", "R", "H") == b""
    assert error_document(S3Error("PreconditionFailed", "x"), "GET", "/b/k", "R", "H") != b""


def test_text_in_many_pieces() -> None:
    assert read("<a>" + "<!---->x&amp;" * 500 + "</a>").own_text() == "x&" * 500
