"""A page, parsed: its tags are closed, and it asks nothing of the network."""

from html.parser import HTMLParser

_VOID = {"meta", "line", "path", "circle", "rect", "br", "link"}


class ParsedPage(HTMLParser):
    """Fails on a tag that is not closed and on a script; gathers the ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe")
        if tag not in _VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name == "id":
                self.ids.add(value or "")
            if name in ("src", "srcset", "href"):
                assert (value or "").startswith("#"), f"{value} is asked of the network"

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag


def parse(page: str) -> ParsedPage:
    """Parse a page that has to be whole, self-contained and fit for a phone."""
    assert "url(" not in page
    assert "@import" not in page
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    return ParsedPage(page)
