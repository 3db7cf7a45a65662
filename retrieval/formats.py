"""File formats: the bytes of one file to text, title and metadata."""

import re
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, NamedTuple

from hybrid.errors import DependencyError

_HEADING = re.compile(r"^#[ \t]+(.+?)[ \t#\r]*$", re.MULTILINE)
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_CONTENT = ["script", "style", "noscript", "template", "nav", "footer", "button", "svg"]
_BLOCKS = [
    "address", "article", "aside", "blockquote", "br", "caption", "dd", "div", "dl", "dt", "figcaption", "figure",
    "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "pre", "section", "table",
    "td", "th", "ul",
]  # fmt: skip
_TABLE_PARTS = {"table", "thead", "tbody", "tfoot", "tr"}
# A row that holds these lays out the page, or its cells were not closed: each cell becomes a paragraph.
_LAYOUT = ", ".join(f":scope {tag}" for tag in ("table", "tr", "ul", "ol", "pre", "h1", "h2", "h3", ":is(td, th) td"))


# As browsers read them.
_WEB_ENCODINGS = dict.fromkeys(("iso-8859-1", "iso8859-1", "latin-1", "latin1", "ascii", "us-ascii"), "cp1252")


class Unreadable(Exception):
    """A file gives no text; the message says why."""


class Content(NamedTuple):
    """What a file holds; `title` is empty where the file names none."""

    text: str
    title: str = ""
    metadata: Mapping[str, str] = {}


def decode(data: bytes) -> str:
    r"""Decode UTF-8, or UTF-16 where a byte order mark announces it; the mark is dropped, line ends are kept.

    Raises:
        Unreadable: The bytes are neither.

    >>> decode(b"\xef\xbb\xbfcaf\xc3\xa9\r\n")
    'café\r\n'
    """
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise Unreadable("UTF-32 text; convert it to UTF-8, e.g. with iconv")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise Unreadable(f"broken UTF-16 text at offset {error.start}") from None
    if b"\x00" in data:
        raise Unreadable("binary data, not text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The decoder counts from behind the mark.
        offset = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        reason = f"not UTF-8 text: byte 0x{data[offset]:02x} at offset {offset}; convert it, e.g. with iconv"
        raise Unreadable(reason) from None


def encodable(text: str) -> str:
    """Replace lone surrogates, which PDF files and JSON escapes can smuggle in and which no file can store."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def read_plain(data: bytes) -> Content:
    """Read plain text verbatim."""
    return Content(decode(data))


def read_markdown(data: bytes) -> Content:
    r"""Read Markdown verbatim; the title is the first `# heading` outside fenced code.

    >>> read_markdown(b"# Pump #\n\nReplace it.").title
    'Pump'
    """
    text = decode(data)
    heading = _HEADING.search(_FENCED.sub("", text))
    return Content(text, heading[1] if heading else "")


def read_html(data: bytes) -> Content:
    """Read the main text of a page: paragraphs apart by an empty line, a table row on each line.

    Raises:
        Unreadable: The bytes are no text in UTF-8 or the declared encoding.
        DependencyError: BeautifulSoup or lxml is missing.
    """
    soup = _parse_html(_decode_html(data))
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    for tag in soup([*_NOT_CONTENT, "title"]):
        tag.decompose()
    return Content(_html_text(_main_part(soup)), title)


def read_docx(data: bytes) -> Content:
    """Read a Word file as `read_html` does a page: headings, lists, tables and notes, tracked changes accepted.

    Equations are left out, as mammoth does not read them.

    Raises:
        Unreadable: The file is damaged, asks for a password or is of the older format.
        DependencyError: mammoth, BeautifulSoup or lxml is missing.
    """
    try:
        import mammoth
    except ImportError:
        raise DependencyError("mammoth", "documents") from None
    try:
        page = mammoth.convert_to_html(
            BytesIO(data),
            style_map="p[style-name='Title'] => h1:fresh",
            convert_image=mammoth.images.img_element(lambda _: {}),  # not their bytes, which would be put into the page
        ).value
    except Exception as error:  # mammoth raises whatever zip files and XML stumble over
        raise Unreadable(f"damaged, encrypted or unsupported Word file: {type(error).__name__}: {error}") from None
    soup = _parse_html(page)
    heading = soup.find("h1")
    return Content(encodable(_html_text(soup)), " ".join(heading.get_text().split()) if heading else "")


def _parse_html(text: str) -> Any:  # noqa: ANN401 - bs4 is not typed
    bs4 = _bs4()
    try:
        return bs4.BeautifulSoup(text, "lxml")  # closes what a page leaves open, as browsers do
    except bs4.FeatureNotFound:
        raise DependencyError("lxml", "documents") from None


def _bs4() -> Any:  # noqa: ANN401 - bs4 is not typed
    try:
        import bs4
    except ImportError:
        raise DependencyError("beautifulsoup4", "documents") from None
    return bs4


def _main_part(soup: Any) -> Any:  # noqa: ANN401 - bs4 is not typed
    """The `main` of a page, or its only article; where there are several, as on a list of news, the whole page."""
    articles = [article for article in soup.find_all("article") if article.find_parent("article") is None]
    for part in (soup.find("main"), articles[0] if len(articles) == 1 else None):
        if part is not None and part.get_text().strip():
            return part
    return soup


def _decode_html(data: bytes) -> str:
    try:
        return decode(data)
    except Unreadable:
        declared = (_bs4().dammit.EncodingDetector.find_declared_encoding(data, is_html=True) or "utf-8").lower()
        try:
            return data.decode(_WEB_ENCODINGS.get(declared, declared))
        except (LookupError, UnicodeError):
            pass
        raise


def _html_text(root: Any) -> str:  # noqa: ANN401 - bs4 is not typed
    parts: list[str] = []
    todo: list[tuple[Any, bool]] = [
        (root, False)
    ]  # what is still to be read, last first, and whether it stands in `pre`
    while todo:
        node, kept = todo.pop()
        if isinstance(node, str):
            parts.append(_visible(node) if kept else re.sub(r"\s+", " ", _visible(node)))
        elif node.name == "tr" and node.select_one(_LAYOUT) is None:
            cells = [" ".join(cell.get_text(" ").split()) for cell in node.find_all(["td", "th"])]
            parts.append("\n" + " | ".join(cells))
        else:
            around = [("\n\n", True)] if node.name in _BLOCKS else []
            kept = kept or node.name == "pre"
            todo += [*around, *((child, kept) for child in reversed(node.contents)), *around]
    paragraphs = (part.strip() for part in re.split(r"\n[ \t]*\n", "".join(parts)))
    return "\n\n".join(re.sub(r"[ \t]+\n", "\n", part) for part in paragraphs if part)


def _visible(text: Any) -> str:  # noqa: ANN401 - bs4 is not typed
    # Comments, doctypes and the like are subclasses; white space between rows would tear a table apart.
    if type(text) is str:
        return text
    between = text.parent.name in _TABLE_PARTS and not text.strip()
    return "" if between or type(text).__name__ != "NavigableString" else str(text)


def read_pdf(data: bytes) -> Content:
    """Read the text layer of a PDF; pages are apart by an empty line.

    The metadata hold `pages`, the number of pages, and `page_starts`, the offset of each page in the text.

    Raises:
        Unreadable: The file is damaged, asks for a password or has no text layer.
        DependencyError: pypdf is missing.
    """
    try:
        from pypdf import PdfReader
    except ImportError:
        raise DependencyError("pypdf", "documents") from None
    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("encrypted PDF: asks for a password")
        pages = [encodable(page.extract_text()).replace("\f", "\n").strip() for page in reader.pages]
        title = reader.metadata.title if reader.metadata else None
    except Unreadable:
        raise
    except Exception as error:  # pypdf raises whatever its parser stumbles over, from KeyError to RecursionError
        raise Unreadable(f"damaged or unsupported PDF: {type(error).__name__}: {error}") from None
    if not any(pages):
        raise Unreadable(f"PDF without text on its {len(pages)} pages: probably scanned; run OCR first")
    starts = [0]
    for page in pages[:-1]:
        starts.append(starts[-1] + len(page) + 2)
    metadata = {"pages": str(len(pages)), "page_starts": ",".join(map(str, starts))}
    return Content("\n\n".join(pages), encodable(title or "").strip(), metadata)


READERS: Mapping[str, Callable[[bytes], Content]] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".txt": read_plain,
    ".html": read_html,
    ".htm": read_html,
    ".docx": read_docx,
    ".pdf": read_pdf,
}
