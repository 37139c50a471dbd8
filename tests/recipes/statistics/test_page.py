"""The HTML page: everything of the document is in it, and nothing is loaded or run."""

from __future__ import annotations

from html.parser import HTMLParser

from flare_async.recipes.statistics.page import page_of

BINS = [[0.0, 1.0, 3], [1.0, 2.0, 0]]
DOCUMENT = {
    "age": {
        "mean": {"site-1": {"train": 38.5}, "Global": {"train": 40.25, "test": 41}},
        "histogram": {"site-1": {"train": BINS}, "Global": {"train": BINS}},
        "quantile": {"Global": {"train": {"0.5": 37.5}}},
    },
    "<script>alert(1)</script>": {"count": {'"><b>': {"&": 12}}},
    "kept": {},
}


class Seen(HTMLParser):
    """Notes tags, text and addresses."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.addresses = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        """Note a tag and what it refers to."""
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        """Note text."""
        self.texts.append(data)


def test_every_number_is_on_the_page():
    """What a site did not tell is a dash."""
    seen = Seen(page_of(DOCUMENT, "statistics of adults"))
    assert {"38.5", "40.25", "41", "37.5", "quantile 0.5", "-"} <= set(seen.texts)
    assert "No site told anything of it." in seen.texts
    assert "statistics of adults" in seen.texts


def test_histograms_are_drawn_bar_by_bar():
    """Those of all sites come first."""
    page = page_of(DOCUMENT, "t")
    assert Seen(page).tags.count("rect") == 4
    assert page.index("Global, train") < page.index("site-1, train</figcaption>")
    assert "0 to 1: 3" in page


def test_names_of_sites_and_features_are_text():
    """Whatever they hold."""
    seen = Seen(page_of(DOCUMENT, "<i>"))
    assert not {"script", "b", "i", "img", "link"} & set(seen.tags)
    assert "<script>alert(1)</script>" in seen.texts


def test_the_page_needs_nothing_else():
    """No address, and a policy that would not load one."""
    page = page_of(DOCUMENT, "t")
    assert Seen(page).addresses == []
    assert "default-src 'none'" in page
