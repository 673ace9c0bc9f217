"""Pages: self-contained, escaped, and the same for the same content."""

import re
from html.parser import HTMLParser

import pytest
from markupsafe import Markup

from penstock.components.contracts.reports import Check
from penstock.components.reporting.page import Section, checks_table, render_page, table

VOID = {"br", "hr", "img", "link", "meta"}


class Balance(HTMLParser):
    """Fails on a tag that is closed wrongly or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(verdict: str = "pass", **options: object) -> str:
    sections = [Section("Checks", Markup("<p>body</p>"), "a note"), Section("Plain", Markup("<i>x</i>"))]
    return render_page("Title", verdict, "because", sections, **options)  # type: ignore[arg-type]


def test_a_page_is_whole_and_loads_nothing() -> None:
    text = page(facts={"rows": "70,000"})
    balance = Balance()
    balance.feed(text)

    assert text.startswith("<!doctype html>")
    assert balance.open == []
    assert not re.search(r"<script|<link|@import|url\(|src=", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_a_page_holds_what_it_was_given() -> None:
    text = page(facts={"rows": "70,000"})

    for piece in ("<h1>Title</h1>", "because", "<h2>Checks</h2>", "<p>body</p>", "a note", "<dt>rows</dt>",
                  "<dd>70,000</dd>"):
        assert piece in text
    assert text.count('class="note"') == 1


def test_text_is_escaped_and_markup_is_not() -> None:
    text = render_page("<b>", "pass", "1 < 2 & 3", [Section("<i>", Markup("<p>kept</p>"))],
                       {"<k>": "<v>", "link": Markup('<a href="x">y</a>')})

    assert "<b>" not in text
    assert "1 &lt; 2 &amp; 3" in text
    assert "&lt;k&gt;" in text
    assert "<p>kept</p>" in text
    assert '<a href="x">y</a>' in text


@pytest.mark.parametrize(("verdict", "tone"), [
    ("pass", "good"), ("promote", "good"), ("first", "good"), ("measured", "good"), ("succeeded", "good"),
    ("fail", "bad"), ("failed", "bad"), ("roll_back", "bad"), ("running", ""),
])
def test_the_badge_has_the_colour_of_the_verdict(verdict: str, tone: str) -> None:
    assert f'<span class="badge {tone}">{verdict.replace("_", " ")}</span>' in page(verdict)


def test_cells_are_written_for_people() -> None:
    text = table(["Name", "Value"], [["a<b", 1234567], ["half", 0.123456], ["whole", 3.0], ["flag", True],
                                     ["link", Markup("<a>x</a>")]], numeric={1})

    for cell in ("<td>a&lt;b</td>", '<td class="number">1,234,567</td>', '<td class="number">0.1235</td>',
                 '<td class="number">3</td>', '<td class="number">yes</td>', '<td class="number"><a>x</a></td>'):
        assert cell in text
    assert '<th class="number">Value</th>' in text


def test_checks_show_what_held_what_failed_and_what_does_not_block() -> None:
    text = checks_table([
        Check(name="accuracy", passed=True, value=0.9, rule=">= 0.83"),
        Check(name="leaked", passed=False, value=3, rule="<= 0", detail="train/test: 3"),
        Check(name="slices", passed=False, value=1, rule="<= 0", blocking=False),
    ])

    assert text.count('title="passed"') == 1
    assert text.count('title="failed"') == 1
    assert text.count("(does not block)") == 1
    assert "train/test: 3" in text
