"""``python -m dkimpipe.man``: generate all pages in the directory of their prose."""

from __future__ import annotations

from dkimpipe.man.page import DIRECTORY, pages


def main() -> int:
    """Write each page; return 0."""
    for name, text in pages().items():
        (DIRECTORY / name).write_text(text, encoding="ascii")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
