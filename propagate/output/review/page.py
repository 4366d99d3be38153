"""The review page: one HTML file that asks for nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from propagate.errors import OutputError
from propagate.output.atomic import atomic_path

SCRIPTS = ("data.js", "stage.js", "tracks.js", "flagged.js", "main.js")
"""In the order in which they stand in the page's one script."""


def write_page(
    path: Path, facts: Mapping[str, Any], pictures: Iterable[tuple[int, Mapping[str, Any]]]
) -> None:
    """Write the page, picture by picture as they come.

    Args:
        path: of the HTML file.
        facts: what `page_facts` gives; its texts may be anything.
        pictures: position and `encode_frame` of each embedded frame.

    Raises:
        OutputError: it can't be written.
    """
    style, script = _part("page.css"), "".join(map(_part, SCRIPTS))
    head, tail = _part("page.html").split("{{pictures}}\n")
    parts = {
        "policy": _policy(style, script),
        "title": html.escape(f"{facts['title']} – review"),
        "style": style,
        "clip": embedded_json(facts),
        "script": script,
    }
    with atomic_path(path) as temporary:
        try:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.write(_filled(head, parts))
                for position, picture in pictures:
                    file.write(
                        f'<script type="application/json" id="picture-{position}">'
                        f"{embedded_json(picture)}</script>\n"
                    )
                file.write(_filled(tail, parts))
        except OSError as error:
            raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error


def embedded_json(value: Any) -> str:
    """JSON that can stand in a script element, whatever texts are in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _filled(text: str, parts: Mapping[str, str]) -> str:
    """`text` with its {{names}} replaced; what is put in is not looked at again."""
    pieces = text.split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, rest = piece.split("}}", 1)
        filled += [parts[name], rest]
    return "".join(filled)


def _policy(style: str, script: str) -> str:
    """A content security policy that allows this very style and script, and embedded images."""
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _part(name: str) -> str:
    return files("propagate.output.review").joinpath("page", name).read_text(encoding="utf-8")
