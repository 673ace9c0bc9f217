"""Plots: valid SVG in the page's own colours, the same bytes for the same numbers, and the data where it belongs."""

import base64
import io
import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from penstock.components.reporting.plots import (
    bars,
    curves,
    heatmap,
    histogram,
    image_grid,
    intervals,
    lines,
    reliability,
)

PLOTS: dict[str, Callable[[], Markup]] = {
    "bars": lambda: bars(["cat & dog", "$x$"], {"train": [3, 4], "test": [1, 2]}, "rows"),
    "curves": lambda: curves({"a": ([0, 0.5, 1], [0, 0.9, 1]), "b": ([0, 1], [0, 1])}, "x", "y", ([0, 1], [0, 1])),
    "heatmap": lambda: heatmap([[9, 1], [0, 8]], ["cat & dog", "$x$"], "predicted", "true"),
    "histogram": lambda: histogram(np.arange(10), 5, "value"),
    "intervals": lambda: intervals(["cat & dog", "b"], [0.5, 0.6], [0.4, 0.5], [0.6, 0.7], "accuracy"),
    "lines": lambda: lines([1, 2, 3], {"train": [3, 2, 1], "test": [3, float("nan"), 2]}, "epoch", "loss"),
    "reliability": lambda: reliability([0.25, 0.5, 0.75], [0.3, 0.5, 0.7], [10, 0, 30]),
}


@pytest.fixture(params=PLOTS)
def plot(request: pytest.FixtureRequest) -> str:
    return str(PLOTS[request.param]())


def test_a_plot_is_valid_xml_with_its_namespace(plot: str) -> None:
    figure = ElementTree.fromstring(plot)

    for svg in figure:
        assert svg.tag == "{http://www.w3.org/2000/svg}svg"
        assert svg.get("aria-label")
        assert svg.get("viewBox")
        assert svg.get("width") is None


def test_a_plot_is_drawn_for_a_wide_screen_and_for_a_phone(plot: str) -> None:
    wide, narrow = ElementTree.fromstring(plot)
    widths = [float(svg.get("viewBox", "").split()[2]) for svg in (wide, narrow)]

    assert [svg.get("class") for svg in (wide, narrow)] == ["wide", "narrow"]
    assert widths[0] == 2 * widths[1]


def test_a_plot_takes_its_colours_from_the_page(plot: str) -> None:
    assert "var(--series-1)" in plot or "var(--heat)" in plot
    assert "currentColor" in plot
    assert not re.search(r"#[0-9a-f]{6}", plot)


def test_a_plot_says_nothing_of_when_and_by_what_it_was_drawn(plot: str) -> None:
    assert "metadata" not in plot
    assert "font-family" not in plot


def test_the_same_numbers_give_the_same_bytes() -> None:
    for name, draw in PLOTS.items():
        assert draw() == draw(), name


def test_labels_are_text_not_formulas_nor_markup() -> None:
    text = PLOTS["bars"]()

    assert "cat &amp; dog" in text
    assert ">$x$<" in text


def test_a_bin_without_rows_is_not_drawn() -> None:
    with_empty = reliability([0.2, 0.5, 0.8], [0.3, 0.0, 0.7], [10, 0, 30])

    assert with_empty == reliability([0.2, 0.5, 0.8], [0.3, 1.0, 0.7], [10, 0, 30])


def test_cells_show_their_number_while_there_is_room() -> None:
    few, many = (heatmap(np.eye(size) * 1234, [f"{row}" for row in range(size)], "p", "t") for size in (3, 30))

    assert few.count("1,234") == 6  # wide and narrow
    assert "1,234" not in many


@pytest.mark.parametrize("epochs", [1, 2, 7, 200])
def test_whole_numbers_are_counted_in_whole_numbers(epochs: int) -> None:
    plot = lines(range(1, epochs + 1), {"loss": np.full(epochs, 0.5)}, "epoch", "loss")
    places = ElementTree.fromstring(plot).iter("{http://www.w3.org/2000/svg}text")
    ticks = [text.text or "" for text in places if (text.text or "").replace(".", "").isdigit()]

    assert "1" in ticks or epochs > 100
    assert not [tick for tick in ticks if re.fullmatch(r"\d+\.\d*[1-9]", tick) and float(tick) >= 1]


def test_a_limit_is_named_where_it_lies() -> None:
    assert ">allowed<" in histogram(np.arange(10), 5, "value", {"allowed": 8})
    assert ">allowed<" not in PLOTS["histogram"]()


def test_a_long_name_is_cut_on_a_phone_only() -> None:
    wide, narrow = ElementTree.fromstring(intervals(["a name far too long for a phone"], [1], [0], [2], "x"))

    assert "a name far too long for a phone" in "".join(wide.itertext())
    assert "a name far too …" in "".join(narrow.itertext())


def test_more_series_than_colours_differ_by_their_dashes() -> None:
    plot = lines([1, 2], {f"{index}": [index, index] for index in range(6)}, "x", "y")
    styles = [path.get("style", "") for path in ElementTree.fromstring(plot)[0].iter("{http://www.w3.org/2000/svg}path")
              if "var(--series-1)" in path.get("style", "") and "fill: none" in path.get("style", "")]

    assert {"stroke-dasharray" in style for style in styles} == {True, False}


def test_an_empty_matrix_is_drawn() -> None:
    assert "<svg" in heatmap(np.zeros((2, 2)), ["a", "b"], "predicted", "true")


@pytest.mark.parametrize("channels", [1, 3])
def test_small_pictures_are_shown_pixel_for_pixel(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, channels)).astype(np.uint8)
    text = image_grid(images, ["a<b", ""], columns=4)

    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
             for data in re.findall(r"data:image/png;base64,([^\"]+)", text)]
    np.testing.assert_array_equal(np.stack(shown).reshape(images.shape), images)
    assert text.count('class="small"') == 2
    assert text.count("<span>") == 1
    assert "a&lt;b" in text
    assert 'style="--columns: 4"' in text


def test_photos_are_shrunk() -> None:
    text = image_grid(np.zeros((1, 900, 600, 3), np.uint8), ["photo"])

    (data,) = re.findall(r"data:image/jpeg;base64,([^\"]+)", text)
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (128, 192)
    assert "small" not in text
