"""What a page says, read without a browser."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "wbr", "hr", "input"}


class Parsed(HTMLParser):
    """The elements of a document with their attributes, its text, and a check that each element is closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def check(html):
    """What every page must hold; returns the parsed page."""
    page = Parsed(html)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for anchor in page.all("a"):
        assert anchor["href"].startswith(("#", "data:text/csv"))
        assert not anchor["href"].startswith("#") or anchor["href"][1:] in ids
    for attributes in (attributes for _, attributes in page.elements):
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert all(label in ids for label in attributes.get("aria-labelledby", "").split())
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in page.all("img"))
    assert len(page.all("script")) == len(page.all("style")) == len(page.all("h1")) == 1
    assert "src" not in page.all("script")[0]
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert "http://" not in html
    assert "https://" not in html
    return page
