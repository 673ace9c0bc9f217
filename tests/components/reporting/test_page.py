"""Pages: self-contained, escaped, and the same for the same content."""

import re
from html.parser import HTMLParser
from importlib.resources import files

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


CSS = (files("penstock.components.reporting") / "page.css").read_text(encoding="utf-8")
SCHEMES = {"light": CSS.partition("@media")[0],
           "dark": CSS.partition("prefers-color-scheme: dark")[2].partition("* {")[0]}


def contrast(scheme: str, one: str, other: str) -> float:
    """Return the ratio that WCAG 2.2 defines, 1 to 21, of two variables of the style sheet."""
    def luminance(name: str) -> float:
        (colour,) = re.findall(rf"--{name}: #([0-9a-f]{{6}});", SCHEMES[scheme])
        shares = [int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


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


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("one", "other", "least"), [
    *[(text, back, 4.5) for text in ("ink", "soft", "link", "good", "bad") for back in ("paper", "card")],
    ("good", "good-wash", 4.5), ("bad", "bad-wash", 4.5), ("ink", "line", 4.5), ("ink", "heat", 4.5),
    *[(f"series-{index}", "card", 3) for index in range(1, 6)]])
def test_text_and_lines_stand_out_in_light_and_dark(scheme: str, one: str, other: str, least: float) -> None:
    assert contrast(scheme, one, other) >= least


@pytest.mark.parametrize(("verdict", "tone"), [
    ("pass", "good"), ("promote", "good"), ("first", "good"), ("measured", "good"), ("succeeded", "good"),
    ("trained", "good"),
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


def test_long_texts_keep_a_width_of_their_own() -> None:
    mark = Markup('<span class="good-mark" title="passed">x</span>')
    text = table(["", "Name", "Remark"], [[mark, "short", "a remark of more than a few words"]])

    assert f'<td>{mark}</td><td>short</td><td class="long">a remark' in text
    assert ".long { min-width: 14rem; }" in CSS


def test_a_table_scrolls_within_its_own_box_also_by_the_keyboard() -> None:
    text = table(["", "Name", "Value"], [["", "a", 1]])

    assert text.startswith('<div class="scroll" tabindex="0" role="region" aria-label="Table: Name, Value"><table>')
    assert ".scroll { overflow-x: auto;" in CSS


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
