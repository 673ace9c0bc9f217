"""Pictures of a confidence sequence that closes in, and what the test says in words.

Computes no error rate.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from penstock.components.evidence.decision import Decision
from penstock.components.evidence.rate import RateTest

TOLERANCE = 0.005
BASELINE = 0.01
SHARE = 0.2
LOOK = 100
DRAWN = 200  # looks of a picture
GOOD, BAD, INK, BAND = "#1a7f37", "#b42318", "#30343b", "#5b8def"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "penstock", "font.size": 11, "font.family": "sans-serif",
         "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}


class Story(NamedTuple):
    """A canary to watch: what it is like, and how long."""

    name: str
    title: str
    more: float
    looks: int
    seed: int


STORIES = (
    Story("good", "A good canary: exactly like stable", 0.0, 800, 10),
    Story("bad", "A bad canary: 2 points more errors than stable", 0.02, 800, 15),
    Story("marginal", "A marginal canary: 0.05 points less than what is allowed", 0.0045, 800, 1),
)


class Watched(NamedTuple):
    """What the test said at each look, up to its verdict."""

    story: Story
    decisions: list[Decision]


def watch(story: Story) -> Watched:
    """Show RateTest the canary, look by look, until it has a verdict."""
    random = np.random.default_rng(story.seed)
    test, decisions = RateTest(TOLERANCE), []
    for _ in range(story.looks):
        canary = int(random.binomial(LOOK, SHARE))
        test.update((random.binomial(LOOK - canary, BASELINE), LOOK - canary),
                    (random.binomial(canary, BASELINE + story.more), canary))
        decisions.append(test.decide())
        if decisions[-1].verdict != "undecided":
            break
    return Watched(story, decisions)


def draw(watched: Watched) -> str:
    """Return the picture as SVG on white; the same run gives the same bytes."""
    with rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(9, 4.2), layout="constrained", facecolor="white")
        _paint(figure.subplots(), watched)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="white")
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _paint(axes: Axes, watched: Watched) -> None:
    decisions = watched.decisions[::-max(len(watched.decisions) // DRAWN, 1)][::-1]  # the last is always there
    x = np.array([decision.samples for decision in decisions])
    lower, upper, estimate = (100 * np.array([getattr(decision, name) for decision in decisions])
                              for name in ("lower", "upper", "estimate"))
    last = decisions[-1]
    axes.set_facecolor("white")
    axes.axhspan(-10, TOLERANCE * 100, color=GOOD, alpha=0.07, lw=0)
    axes.axhline(TOLERANCE * 100, color=GOOD, lw=1.5, ls=(0, (5, 3)))
    axes.fill_between(x, lower, upper, color=BAND, alpha=0.28, lw=0, step="post")
    axes.plot(x, estimate, color=INK, lw=1.4)
    axes.set(xlim=(0, x[-1] * 1.36), ylim=(-3.2, 5.2), xlabel="canary requests",
             ylabel="errors, canary minus stable, points")
    axes.set_title(watched.story.title, loc="left", fontweight="bold")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= x[-1]])
    beside = x[-1] * 1.02
    axes.text(beside, TOLERANCE * 100 + 0.12, f"allowed: up to {TOLERANCE * 100:+g}", color=GOOD, va="bottom")
    near = abs(estimate[-1] - TOLERANCE * 100 - 0.3) < 0.8
    axes.text(beside, TOLERANCE * 100 - 0.45 if near else estimate[-1], f"counted: {estimate[-1]:+.2f}", color=INK,
              va="center")
    where = int(len(x) * 0.3)
    axes.annotate("where the truth may be", (x[where], max(lower[where], -2.6)), (x[where], -2.75), color="#2b57a5",
                  ha="center", va="center", arrowprops={"arrowstyle": "-", "color": "#2b57a5"})
    colour = {"worse": BAD, "within": GOOD, "undecided": INK}[last.verdict]
    words = "no verdict yet" if last.verdict == "undecided" else f"verdict: {last.verdict}"
    axes.axvline(x[-1], color=colour, lw=1.5)
    axes.text(beside, 5.0, f"{words}\nafter {last.samples:,} requests", color=colour, va="top", fontweight="bold")


def section(folder: Path) -> str:
    """Write the pictures into `folder`, and return the Markdown that shows them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"Errors of stable {BASELINE * 100:g} %, share of the canary {SHARE * 100:g} %, a look every {LOOK} "
             f"requests, {TOLERANCE * 100:g} points allowed. The band is where the true difference may be: it is wrong "
             f"anywhere on its whole way with a probability of at most 5 % on either side."]
    for story in STORIES:
        watched = watch(story)
        (folder / f"{story.name}.svg").write_text(draw(watched), encoding="utf-8")
        last = watched.decisions[-1]
        lines.append(f"![{story.title}; {last.verdict} after {last.samples:,} canary requests]"
                     f"({folder.name}/{story.name}.svg)")
        early = watched.decisions[max(len(watched.decisions) // 4, 1) - 1]
        lines.append(f"After {early.samples:,} canary requests, `{early.verdict}`:\n\n> {early.reason}\n\n"
                     f"After {last.samples:,}, `{last.verdict}`:\n\n> {last.reason}")
    lines.append("Before anything was counted:\n\n> " + RateTest(TOLERANCE).decide().reason)
    test = RateTest(0.0)
    test.update((10, 1000), (8, 1000))
    lines.append("With a tolerance of 0, and a canary that looks better:\n\n> " + test.decide().reason)
    return "\n\n".join(lines) + "\n"
