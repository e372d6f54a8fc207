"""PDF documents on plain pages: the font, texts, pairs, and a page that gives the same bytes each time.

The font is Bitstream Vera, which comes with reportlab and knows Latin letters: what it cannot show becomes "?".
"""

from __future__ import annotations

import functools
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import reportlab
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate, Table

_REGULAR, _BOLD = "Vera", "VeraBd"
_MARGIN = 20 * mm
WIDTH = A4[0] - 2 * _MARGIN


@functools.cache
def _signs() -> frozenset[int]:
    """What both fonts can show; they are registered with the first use."""
    known: list[set[int]] = []
    for name in (_REGULAR, _BOLD):
        font = TTFont(name, str(Path(reportlab.__file__).parent / "fonts" / f"{name}.ttf"))
        pdfmetrics.registerFont(font)
        known.append(set(font.face.charToGlyph))
    return frozenset(known[0] & known[1])


def shown(said: str) -> str:
    """A text as the font can show it, fit for a paragraph."""
    signs = _signs()
    composed = unicodedata.normalize("NFC", said)
    return escape("".join(sign if ord(sign) in signs and sign.isprintable() else "?" for sign in composed))


def text(said: str, bold: bool = False, size: float = 9) -> Paragraph:
    fit = shown(said)
    return Paragraph(fit, _style(bold, size))


@functools.cache
def _style(bold: bool, size: float) -> ParagraphStyle:
    return ParagraphStyle(
        f"{bold} {size}", fontName=_BOLD if bold else _REGULAR, fontSize=size, leading=size * 1.3, splitLongWords=1
    )


def pairs(of: Sequence[tuple[str, str]], size: float = 9) -> Table:
    """Names, and what each is."""
    rows = [[text(name, bold=True, size=size), text(value, size=size)] for name, value in of]
    return Table(rows, colWidths=[WIDTH * 0.25, WIDTH * 0.75], style=[("VALIGN", (0, 0), (-1, -1), "TOP")])


def a4(title: str, author: str, parts: Sequence[Any]) -> bytes:
    """The document. The same parts give the same bytes."""
    out = io.BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=title,
        author=author,
        creator="Rochdale",
        lang="en",
    )
    document.build(list(parts), canvasmaker=_canvas)
    return out.getvalue()


def _canvas(*arguments: Any, **named: Any) -> Canvas:
    """Without time, random ids and compression, all of which would make other bytes of the same content elsewhere."""
    return Canvas(*arguments, **(named | {"invariant": 1, "pageCompression": 0}))
