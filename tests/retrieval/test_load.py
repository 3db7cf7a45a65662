"""Loading: formats, reasons for what is skipped, errors that name the place."""

import builtins
import json
import os
import zipfile
from base64 import b64decode
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from docx import Document as docx_document
from fpdf import FPDF

from hybrid.errors import DependencyError, DocumentError
from hybrid.retrieval import Loaded, Skipped, load_documents

PIXEL = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")


def pdf(*pages: str, password: str = "") -> bytes:
    document = FPDF()
    document.set_font("helvetica")
    for page in pages:
        document.add_page()
        if page:
            document.multi_cell(0, text=page)
    if password:
        document.set_encryption(owner_password="owner", user_password=password)
    return bytes(document.output())


def lines(*records: Any) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def fill(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def ids(loaded: Loaded) -> list[str]:
    return [document.id for document in loaded.documents]


def test_a_folder(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "b.txt": "plain",
        "sub/a.md": "intro\n# Pump\ntext",
        "c.HTML": "<title>Page</title><p>words",
        ".hidden.md": "no",
        ".git/x.md": "no",
        "d.pdf": pdf("first page", "second page"),
    }
    loaded = load_documents(fill(tmp_path, files))
    assert ids(loaded) == ["b.txt", "c.HTML", "d.pdf", "sub/a.md"]
    assert [document.title for document in loaded.documents] == ["b", "Page", "d", "Pump"]
    assert loaded.skipped == ()
    assert loaded.documents[3].metadata["path"] == "sub/a.md"


def test_text_is_verbatim(tmp_path: Path) -> None:
    text = "# Tïtle\r\n\r\n  Ελληνικά 日本語\u2028 \n\n"
    fill(tmp_path, {"a.md": text, "bom.md": b"\xef\xbb\xbf# Bom", "wide.txt": "\ufeffwide".encode("utf-16-le")})
    assert [document.text for document in load_documents(tmp_path).documents] == [text, "# Bom", "wide"]


def test_markdown_title_ignores_code(tmp_path: Path) -> None:
    fill(tmp_path, {"a.md": "```sh\n# comment\n```\n## minor\n# Major #\n"})
    assert load_documents(tmp_path).documents[0].title == "Major"


def test_html_main_text(tmp_path: Path) -> None:
    page = """<!doctype html><html><head><title> The
    pump </title><style>p {}</style></head><body><nav>menu</nav><main><h1>Pump</h1><!-- hidden -->
    <p>Oil it
    <b>every</b> day.</p><p>Twice<br>on Sunday.</p><table><tr><th>part</th><th>weeks</th></tr>
    <tr><td>seal</td>
    <td>2</td></tr></table><pre>line 1
  line 2</pre><script>code()</script></main><footer>end</footer></body></html>"""
    document = load_documents(fill(tmp_path, {"a.html": page})).documents[0]
    assert document.title == "The pump"
    assert document.text.split("\n\n") == [
        "Pump",
        "Oil it every day.",
        "Twice",
        "on Sunday.",
        "part | weeks\nseal | 2",
        "line 1\n  line 2",
    ]


def test_html_of_a_page_laid_out_by_a_table(tmp_path: Path) -> None:
    inner = "<table><tr><td>a</td><td>b</td></tr></table>"
    page = f"<table><tr><td><h1>Pump</h1><p>Oil it.{inner}</td><td>menu</td></tr></table>"
    document = load_documents(fill(tmp_path, {"a.html": page})).documents[0]
    assert document.text == "Pump\n\nOil it.\n\na | b\n\nmenu"


def test_html_that_is_not_closed(tmp_path: Path) -> None:
    fill(tmp_path, {"a.html": "<table><tr><td>a<td>b<tr><td>c</table>", "b.html": "<div>" * 5_000 + "deep"})
    assert [document.text for document in load_documents(tmp_path).documents] == ["a | b\nc", "deep"]


def test_html_lists_that_leave_out_end_tags(tmp_path: Path) -> None:
    fill(tmp_path, {"a.html": "<ul>" + "".join(f"<li>item {n}<p>about <b>{n}</b>" for n in range(3_000))})
    (document,) = load_documents(tmp_path).documents
    assert document.text.split("\n\n") == [text for n in range(3_000) for text in (f"item {n}", f"about {n}")]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<html><body><p>one</body></html>\n<html><body><p>two</body></html>", "one\n\ntwo"),
        ("<p>one</p></body></html>after", "one\n\nafter"),
        ("<html><head><title>t</title></head><p>one", "one"),
        ("<?xml version='1.0' encoding='iso-8859-1'?><html><body><p>café</p></body></html>", "café"),
        ("<meta charset=latin-1><p>café", "café"),
        ("<pre><code>a:\n  <b>b</b>\n</code></pre><p> x\n y", "a:\n  b\n\nx y"),
        ("<table> <tr> <td> a <!-- c --> </td> <td>b</td> </tr> </table>", "a | b"),
        ("a<![CDATA[d]]><!-- c --><?php e ?>f", "af"),
        ("plain", "plain"),
    ],
)
def test_html_of_many_kinds(page: str, text: str, tmp_path: Path) -> None:
    assert load_documents(fill(tmp_path, {"a.html": page})).documents[0].text == text


def test_html_of_a_declared_encoding(tmp_path: Path) -> None:
    fill(tmp_path, {"a.html": '<meta charset="iso-8859-1"><p>caf\u00e9'.encode("latin-1")})
    assert load_documents(tmp_path).documents[0].text == "café"


def docx(build: Callable[[Any], object]) -> bytes:
    document, stream = docx_document(), BytesIO()
    build(document)
    document.save(stream)
    return stream.getvalue()


def test_docx(tmp_path: Path) -> None:
    def manual(document: Any) -> None:
        document.core_properties.title = "not shown"
        document.sections[0].footer.paragraphs[0].text = "page 1"
        document.add_heading("The pump", level=0)
        document.add_paragraph("Oil it every ").add_run("day").bold = True
        document.add_paragraph("Stop it first.", style="List Bullet")
        document.add_paragraph("Größe 5 & <6>", style="List Bullet")
        table = document.add_table(rows=2, cols=2)
        for row, words in zip(table.rows, [("part", "weeks"), ("seal", "2")], strict=True):
            for cell, word in zip(row.cells, words, strict=True):
                cell.text = word
        document.add_picture(BytesIO(PIXEL))

    (document,) = load_documents(fill(tmp_path, {"a.docx": docx(manual)})).documents
    assert document.title == "The pump"
    assert document.text.split("\n\n") == [
        "The pump",
        "Oil it every day",
        "Stop it first.",
        "Größe 5 & <6>",
        "part | weeks\nseal | 2",
    ]


@pytest.mark.parametrize("damage", ["truncated", "junk", "no document", "old format"])
def test_docx_that_is_damaged(tmp_path: Path, damage: str) -> None:
    whole = docx(lambda document: document.add_paragraph("words"))
    other = BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
    contents = {
        "truncated": whole[: len(whole) // 2],
        "junk": b"junk" * 100,
        "no document": other.getvalue(),
        "old format": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512),
    }
    loaded = load_documents(fill(tmp_path, {"a.docx": contents[damage], "b.md": "words"}))
    assert [skipped.path for skipped in loaded.skipped] == ["a.docx"]
    assert "damaged, encrypted or unsupported Word file" in loaded.skipped[0].reason


def test_docx_without_text(tmp_path: Path) -> None:
    loaded = load_documents(fill(tmp_path, {"a.docx": docx(lambda _: None), "b.md": "words"}))
    assert loaded.skipped == (Skipped("a.docx", "empty"),)


def test_pdf_pages(tmp_path: Path) -> None:
    document = load_documents(fill(tmp_path, {"a.pdf": pdf("first page", "second page")})).documents[0]
    assert document.text == "first page\n\nsecond page"
    assert document.metadata["pages"] == "2"
    assert [document.text[int(start) :][:6] for start in document.metadata["page_starts"].split(",")] == [
        "first ",
        "second",
    ]


BAD: list[tuple[str, bytes, str]] = [
    ("latin.txt", "caf\u00e9".encode("latin-1"), "not UTF-8 text: byte 0xe9 at offset 3; convert it, e.g. with iconv"),
    ("latin-bom.txt", b"\xef\xbb\xbfcaf\xe9", "byte 0xe9 at offset 6"),
    ("odd.txt", b"\xff\xfea\x00b", "broken UTF-16"),
    ("binary.txt", b"\x89PNG\x00\x01", "binary data"),
    ("empty.md", b"", "empty"),
    ("blank.md", b"\xef\xbb\xbf \n\t", "empty"),
    ("picture.png", b"\x89PNG", "type .png is not read"),
    ("noname", b"text", "type without suffix is not read"),
    ("zero.pdf", b"", "empty"),
    ("junk.pdf", b"junk", "damaged or unsupported PDF"),
    ("cut.pdf", pdf("some words")[:400], "damaged or unsupported PDF"),
    ("scan.pdf", pdf("", ""), "PDF without text on its 2 pages"),
    ("secret.pdf", pdf("words", password="secret"), "encrypted PDF"),
    ("data.jsonl", lines({"question": "?", "answers": []}), "not a corpus"),
    ("nothing.html", b"<script>only()</script>", "empty"),
]


@pytest.mark.parametrize(("name", "content", "reason"), BAD, ids=[name for name, *_ in BAD])
def test_bad_among_good(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    loaded = load_documents(fill(tmp_path, {"good.md": "good", name: content}))
    assert ids(loaded) == ["good.md"]
    ((path, said),) = loaded.skipped
    assert path == name
    assert reason in said


def test_unreadable_file_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"good.md": "good", "locked.md": "secret", "closed/a.md": "secret"})
    read, scan = Path.read_bytes, os.scandir

    def refuse(path: Path) -> bytes:
        if path.name == "locked.md":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    def refuse_folder(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    # By patching, since root may read everything.
    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(os, "scandir", refuse_folder)
    loaded = load_documents(tmp_path)
    assert ids(loaded) == ["good.md"]
    assert loaded.skipped == (
        ("closed", "cannot be read: Permission denied"),
        ("locked.md", "cannot be read: Permission denied"),
    )


def test_links(tmp_path: Path) -> None:
    outside = fill(tmp_path / "outside", {"secret.md": "secret", "sub/x.md": "secret 2"})
    folder = fill(tmp_path / "docs", {"good.md": "good"})
    (folder / "file.md").symlink_to(outside / "secret.md")
    (folder / "dir").symlink_to(outside / "sub")
    (folder / "broken.md").symlink_to(folder / "missing.md")
    os.mkfifo(folder / "pipe.md")
    loaded = load_documents(folder)
    assert ids(loaded) == ["good.md"]
    assert dict(loaded.skipped) == {
        "broken.md": "not a regular file",
        "dir": "link to a folder: not followed",
        "file.md": "link that leaves the folder",
        "pipe.md": "not a regular file",
    }
    assert ids(load_documents(folder / "file.md")) == ["file.md"]


def test_repeated_texts(tmp_path: Path) -> None:
    loaded = load_documents(fill(tmp_path, {"b.md": "same  words\n", "a.txt": "same words", "c.md": "other"}))
    assert ids(loaded) == ["a.txt", "c.md"]
    assert loaded.skipped == (("b.md", "same text as a.txt"),)


def test_a_corpus(tmp_path: Path) -> None:
    records = lines(
        {"_id": "b", "title": "Pump", "text": "Oil\u2028it", "year": 2020},
        {"id": 7, "text": "Second \ud800"},
        {"_id": "c", "title": "Only a title", "text": ""},
    )
    fill(
        tmp_path, {"corpus.jsonl": b"\xef\xbb\xbf" + records + b"\n", "queries.jsonl": lines({"_id": "q", "text": "?"})}
    )
    for path in (tmp_path, tmp_path / "corpus.jsonl"):
        loaded = load_documents(path)
        assert [(x.id, x.title, x.text) for x in loaded.documents] == [
            ("7", "", "Second \ufffd"),
            ("b", "Pump", "Oil\u2028it"),
        ]
        assert loaded.documents[1].metadata == {"path": "corpus.jsonl", "line": "1", "year": "2020"}
        assert ("corpus.jsonl:3", "empty text (c)") in loaded.skipped
    assert "queries.jsonl" in dict(load_documents(tmp_path).skipped)


def test_unescaped_line_separator_in_a_record(tmp_path: Path) -> None:
    fill(tmp_path, {"corpus.jsonl": '{"_id": "a", "text": "one\u2028two\u0085three"}\r\n'})
    assert load_documents(tmp_path).documents[0].text == "one\u2028two\u0085three"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"_id": "a", "text": "x"}\n{"_id": ', "2: not a JSON record"),
        (b'{"_id": "a", "text": "x"}\n[1]', "2: expected an object"),
        (b'{"_id": "a", "text": "x"}\n{"text": "y"}', "2: needs a string or number as '_id'"),
        (b'{"_id": "a", "text": "x"}\n\n{"_id": "b", "text": null}', "3: 'text' of 'b'"),
        (b'{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}', "2: the id 'a' is taken by k.jsonl:1"),
        (b'{"_id": "a", "text": "caf\xe9"}', "1: not a JSON record"),
        (b"not json", "1: not a JSON record"),
        (b"[" * 100_000, "1: not a JSON record"),
    ],
)
def test_malformed_corpus(tmp_path: Path, content: bytes, place: str) -> None:
    for path in (fill(tmp_path, {"k.jsonl": content}), tmp_path / "k.jsonl"):
        with pytest.raises(DocumentError, match=r"k\.jsonl") as caught:
            load_documents(path)
        assert f"k.jsonl:{place}" in str(caught.value)


def test_a_question_file_as_documents(tmp_path: Path) -> None:
    fill(tmp_path, {"qa.jsonl": lines({"id": "1", "question": "?"})})
    with pytest.raises(DocumentError, match="'text'"):
        load_documents(tmp_path / "qa.jsonl")


def test_id_taken_by_a_file(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"'z.md' is taken by k.jsonl:1"):
        load_documents(fill(tmp_path, {"z.md": "x", "k.jsonl": lines({"_id": "z.md", "text": "y"})}))


def test_nothing_readable(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no such file"):
        load_documents(tmp_path / "missing")
    with pytest.raises(DocumentError, match=r"empty; Hybrid reads \.docx, .*\.pdf"):
        load_documents(tmp_path)
    fill(tmp_path, {"a.png": b"x", "b.png": b"x", "c.txt": b""})
    with pytest.raises(DocumentError, match=r"3 files found: 2 x type \.png is not read .*a\.png; 1 x empty"):
        load_documents(tmp_path)
    with pytest.raises(DocumentError, match="1 x empty"):
        load_documents(tmp_path / "c.txt")


@pytest.mark.parametrize(("name", "module"), [("a.html", "bs4"), ("a.pdf", "pypdf"), ("a.docx", "mammoth")])
def test_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    real = builtins.__import__

    def refuse(wanted: str, *rest: Any) -> Any:
        if wanted.split(".")[0] == module:
            raise ImportError(wanted)
        return real(wanted, *rest)

    fill(tmp_path, {name: b"<p>words"})
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DependencyError, match=r"hybrid-rag\[documents\]"):
        load_documents(tmp_path)


def test_missing_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bs4.builder_registry.lookup", lambda *_: None)
    with pytest.raises(DependencyError, match=r"lxml.*hybrid-rag\[documents\]"):
        load_documents(fill(tmp_path, {"a.html": "<p>words"}))


def test_file_name_that_is_not_unicode(tmp_path: Path) -> None:
    try:
        for name in (b"caf\xe9.md", b"caf\xe8.md"):
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(f"words of {name!r}")
    except OSError:
        pytest.skip("the file system takes Unicode names only")
    assert ids(load_documents(tmp_path)) == ["caf\\xe8.md", "caf\\xe9.md"]


def test_a_link_to_itself_is_skipped(tmp_path: Path) -> None:
    fill(tmp_path, {"a.md": "words"})
    (tmp_path / "loop.md").symlink_to("loop.md")
    loaded = load_documents(tmp_path)
    assert ids(loaded) == ["a.md"]
    assert [skipped.path for skipped in loaded.skipped] == ["loop.md"]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<body><h1>News</h1><article><p>one</p></article><article><p>two</p></article></body>", "News\n\none\n\ntwo"),
        ("<body>aside<article><p>one<article>reply</article></article></body>", "one\n\nreply"),
        ("<body><main> </main><div>real text</div></body>", "real text"),
        ("<body>menu<main>the page</main></body>", "the page"),
    ],
)
def test_the_text_of_a_page_is_whole(tmp_path: Path, page: str, text: str) -> None:
    fill(tmp_path, {"a.html": page})
    (document,) = load_documents(tmp_path).documents
    assert document.text == text


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"<meta charset=iso-8859-1><p>a \x93red\x94 valve", "a \u201cred\u201d valve"),
        (b"<meta charset=undefined><p>caf\xe9", None),
    ],
)
def test_pages_are_decoded_as_browsers_do(tmp_path: Path, data: bytes, found: str | None) -> None:
    (tmp_path / "a.html").write_bytes(data)
    fill(tmp_path, {"b.md": "words"})
    texts = {document.id: document.text for document in load_documents(tmp_path).documents}
    assert texts.get("a.html") == found


def test_utf_32_is_not_taken_for_utf_16(tmp_path: Path) -> None:
    fill(tmp_path, {"b.md": "words"})
    (tmp_path / "a.txt").write_bytes("hello".encode("utf-32"))
    loaded = load_documents(tmp_path)
    assert ids(loaded) == ["b.md"]
    assert "UTF-32" in loaded.skipped[0].reason


@pytest.mark.parametrize("text", ["# Title\r\n\r\nwords", "# Title #\r\nwords", "~~~\n# comment\n~~~\n# Title\n"])
def test_the_title_is_the_heading_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.md").write_bytes(text.encode())
    (document,) = load_documents(tmp_path).documents
    assert document.title == "Title"


def test_same_order_every_time(tmp_path: Path) -> None:
    fill(tmp_path, {f"{name}/{name}.md": name for name in "zyxabc"} | {"B.md": "B", "ä.md": "ä"})
    assert ids(load_documents(tmp_path)) == sorted(ids(load_documents(tmp_path)))


def test_real_corpora(data_folder: Path) -> None:
    loaded = load_documents(data_folder / "emanual_tv")
    assert len(loaded.documents) == 255
    assert {path for path, reason in loaded.skipped if reason.startswith("empty text")} == {
        "corpus.jsonl:35",
        "corpus.jsonl:36",
    }
    assert len(load_documents(data_folder / "squad11_dev13" / "corpus.jsonl").documents) == 856
