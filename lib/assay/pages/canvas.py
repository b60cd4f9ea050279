"""Consumes titles, sizes and finished figures, produces empty figures in the house style, and SVG or PNG of a figure.

Figures are object-oriented (no pyplot, no global state), so any thread may draw. Colours come from the set of Okabe &
Ito, which colour-blind readers can tell apart; where a colour carries meaning, a shape or a word carries it as well.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import matplotlib
import matplotlib.dates as mdates
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

INK, MUTED, GRID = "#1f2a37", "#5a6675", "#dfe4ea"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
# Text needs more contrast than a line: what stands beside a coloured one has a deeper shade of its colour.
TEXT = {BLUE: "#00639c", ORANGE: "#b34700", GREEN: "#00704f"}
# In a page each colour is a CSS variable with itself as the default, so that a dark page can set its own.
THEME = {INK: "ink", MUTED: "muted", GRID: "grid", BLUE: "blue", ORANGE: "orange", GREEN: "green"} | {
    shade: f"{name}-text" for shade, name in zip(TEXT.values(), ("blue", "orange", "green"), strict=True)
}
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
WIDTH_INCHES = 5.0  # with 9-point text this stays legible at half a page and on a phone
SMALL, TITLE_LEFT = 8.5, 0.01
MINUS = "\u2212"


def new_figure(title: str, height: float = 3.6, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Any]]:
    """A figure of the house width, `height` inches, and its axes row by row. Several axes in a row share nothing."""
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained", facecolor="white")
    figure.suptitle(title, x=TITLE_LEFT, ha="left", size=11, weight="bold", color=INK)
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
    for axes in panels:
        axes.set_axisbelow(True)
        axes.grid(color=GRID, linewidth=0.7)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(GRID)
        axes.tick_params(which="both", color=GRID, labelcolor=MUTED, labelsize=9, length=3)
        axes.tick_params(which="both", axis="y", length=0)
        axes.xaxis.label.set(color=MUTED, size=9)
        axes.yaxis.label.set(color=MUTED, size=9)
    return figure, panels


def note(axes: Any, text: str) -> None:
    """One quiet line above a plot: what is drawn, and in which unit."""
    axes.set_title(text, loc="left", size=SMALL, color=MUTED)


def subtitle(figure: Figure, axes: Any, text: str) -> None:
    """`note` of a figure with one plot, flush with the figure's title instead of the plot's edge."""
    flush = blended_transform_factory(figure.transFigure, axes.transAxes + axes.titleOffsetTrans)
    axes.set_title(text, loc="left", size=SMALL, color=MUTED, x=TITLE_LEFT, transform=flush)


def label(axes: Any, text: str, at: tuple[Any, Any], color: str = MUTED, **options: Any) -> None:
    """Text just right of a data point, in the colour of its line: a direct label needs no legend."""
    placed = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "size": SMALL, **options}
    axes.annotate(text, at, color=TEXT.get(color, color), **placed)


def date_axis(axes: Any, most_ticks: int = 7) -> None:
    """Dates along x that say the year once."""
    locator = mdates.AutoDateLocator(minticks=2, maxticks=most_ticks)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator, show_offset=False))


def compact(value: float, _: object = None) -> str:
    """A number for an axis: 1250000 is 1.25M."""
    for above, size, suffix in ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= above:
            return f"{value / size:,.6g}{suffix}".replace("-", MINUS)
    return f"{value:,.6g}".replace("-", MINUS)


def plain(text: str) -> str:
    r"""Text that matplotlib draws as it is: `$` would start a formula, control characters would break the SVG."""
    return "".join(" " if ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\ufffe\uffff" else c for c in text).replace(
        "$", r"\$"
    )


def short(text: str, most: int = 22) -> str:
    """`plain` text of at most `most` characters; the middle gives way, since names differ at their ends."""
    if len(text) > most:
        text = f"{text[: most * 2 // 3]}…{text[-(most - most * 2 // 3 - 1) :]}"
    return plain(text)


def to_png(figure: Figure, dots_per_inch: int = 160) -> bytes:
    """PNG on white, for viewers without SVG."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format="png", dpi=dots_per_inch)
    return buffer.getvalue()


def to_svg(figure: Figure, name: str, alt: str = "") -> str:
    """One `<svg>` element to put into a page: scales with it, takes its colours from `--plot-*`, names no address.

    name: unique in the page; prefixes all ids. alt: what the picture says, for those who do not see it. The same figure
    and name give the same text. Text stays text (searchable, in the page's font); rasterised artists become PNG.
    """
    buffer = io.StringIO()
    options = {"svg.fonttype": "none", "svg.hashsalt": name}
    with matplotlib.rc_context(options), warnings.catch_warnings():
        # Only the width of a glyph is unknown to matplotlib; the browser has fonts that draw it.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format="svg", dpi=160, transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # matplotlib's stylesheet would apply to the whole page, and its metadata carries addresses.
    text = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL
    )
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", text)
    for colour, variable in THEME.items():
        text = text.replace(f": {colour}", f": var(--plot-{variable}, {colour})")
    text = re.sub(r"(font-family: |font: [^;\"]*?px )[^;\"]*", rf"\g<1>{FONTS}", text)
    box = re.search(r'viewBox="[^"]*"', text)
    root = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box[0] if box else ""}'
    described = f' role="img" aria-label="{_attribute(alt)}"' if alt else ' aria-hidden="true"'
    style = ' style="stroke-linejoin: round; stroke-linecap: butt"'
    text = re.sub(r"<svg[^>]*", lambda _: root + described + style, text, count=1)
    return re.sub(r">\s+<", "><", text).strip()


def _attribute(text: str) -> str:
    return plain(text).replace(r"\$", "$").replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
