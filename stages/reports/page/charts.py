"""Charts as inline SVG: drawn by matplotlib, colored by the page's style sheet, so that they follow light and
dark, and print.

matplotlib writes style attributes, which the page's content security policy forbids: they become presentation
attributes. Each mark carries a <title>, which browsers show as a tooltip and screen readers read.
"""

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

from markupsafe import Markup

WIDTH, HEIGHT = 5.4, 2.9  # inches at 72 points: about a phone's width, so that text stays readable there
# Colors that stand for the page's own; no others are used.
SERIES = tuple(f"#0000f{i}" for i in range(1, 9))
INK, GRID = "#0000e1", "#0000e2"
_VARIABLES = {color: f"var(--c{i})" for i, color in enumerate(SERIES, 1)} | {
    INK: "var(--soft)",
    GRID: "var(--line)",
}
_SVG = "http://www.w3.org/2000/svg"
_ATTRIBUTES = re.compile(
    r"(fill|stroke|opacity|text-anchor|font-size|clip|visibility)"
)  # kept from style attributes
THOUSANDS = 10_000  # from which on numbers are grouped
_LONG_LINE = 12  # points of a line that is drawn without a mark for each


class Point(NamedTuple):
    """A value at position `x`, with the ends of its interval if it has one, and what its tooltip says."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    tip: str = ""


class Series(NamedTuple):
    """A line of points; `spread` draws their intervals as a band instead of error bars."""

    name: str
    points: Sequence[Point]
    color: int = 0  # index in SERIES
    dashed: bool = False
    spread: bool = False


class Bar(NamedTuple):
    """A stacked bar: its label, and (series, value, tooltip) from the bottom up."""

    label: str
    parts: Sequence[tuple[int, float, str]]


def lines(
    title: str,
    series: Sequence[Series],
    labels: Sequence[str] = (),
    unit: str = "",
    zero: bool = False,
    x_name: str = "",
) -> Markup:
    """Return a line chart; `labels` name the positions 0, 1, ... of the x axis, which is numeric without.

    `unit` is "share", "difference" (of shares, with a line at 0) or "". `zero` begins the y axis there.
    """
    figure, axes = _axes(unit)
    if unit == "difference":
        axes.axhline(0, color=INK, linewidth=1)
    tips: dict[str, str] = {}
    for i, one in enumerate(s for s in series if s.points):
        color = SERIES[one.color % len(SERIES)]
        xs, ys = [p.x for p in one.points], [p.y for p in one.points]
        style: Any = (0, (4, 3)) if one.dashed else "-"
        axes.plot(xs, ys, color=color, linewidth=1.8, linestyle=style, solid_capstyle="round", zorder=3)
        sure = [p for p in one.points if p.low is not None and p.high is not None]
        at, lows, highs = [p.x for p in sure], [p.low for p in sure], [p.high for p in sure]
        if one.spread and sure:
            axes.fill_between(at, lows, highs, color=color, alpha=0.14, linewidth=0)
        elif sure:
            axes.vlines(at, lows, highs, color=color, linewidth=1.2, alpha=0.65, zorder=2)
        for k, p in enumerate(one.points if len(xs) <= _LONG_LINE else ()):
            tips[f"tip-{i}-{k}"] = p.tip
            size = 5.5 if not one.dashed else 4
            axes.plot(p.x, p.y, "o", color=color, markersize=size, gid=f"tip-{i}-{k}", zorder=4)
    if labels:
        _label_positions(axes, labels)
        axes.set_xlim(-0.4, len(labels) - 0.6)
    if zero:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(x_name)
    return _svg(figure, title, tips)


def bars(title: str, stacks: Sequence[Bar], x_name: str = "") -> Markup:
    """Return a chart of stacked bars."""
    figure, axes = _axes()
    tips: dict[str, str] = {}
    for i, bar in enumerate(stacks):
        base = 0.0
        for k, (color, value, tip) in enumerate(bar.parts):
            tips[f"tip-{i}-{k}"] = tip
            fill = SERIES[color % len(SERIES)]
            axes.bar(i, value, bottom=base, width=0.56, color=fill, linewidth=0, zorder=3)[0].set_gid(
                f"tip-{i}-{k}"
            )
            base += value
    _label_positions(axes, [bar.label for bar in stacks])
    axes.set_xlim(-0.6, max(len(stacks), 3) - 0.4)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_name)
    return _svg(figure, title, tips)


def _label_positions(axes: Any, labels: Sequence[str]) -> None:
    every = 1 + (len(labels) - 1) // 8  # so many fit side by side
    shown = range(0, len(labels), every)
    axes.set_xticks(list(shown), [labels[i] for i in shown])


def _axes(unit: str = "") -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, ScalarFormatter

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=72, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    figure.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0, labelsize=11, pad=5)
    axes.xaxis.label.set(color=INK, fontsize=11)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(
        FuncFormatter(_FORMATS[unit]) if unit else ScalarFormatter(useOffset=False)
    )
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.margins(y=0.12)
    return figure, axes


_FORMATS: dict[str, Any] = {
    "share": lambda v, _: f"{100 * v:.4g}%",
    "difference": lambda v, _: f"{100 * v:+.4g}".replace("-", "\N{MINUS SIGN}") if v else "0",
}


def _svg(figure: Any, title: str, tips: dict[str, str]) -> Markup:
    """Return the figure as an SVG element without style attributes, ids or metadata."""
    import matplotlib

    target, axes = io.StringIO(), figure.axes[0]
    if max(map(abs, axes.get_ylim())) >= THOUSANDS:
        axes.yaxis.set_major_formatter(lambda v, _: f"{v:,.0f}")
    # Text stays text, in the page's font; it is measured in matplotlib's, which is wider.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(target.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}title", "}style")):
                parent.remove(child)
    for element in root.iter():
        if tip := tips.get(element.get("id", "")):
            label = ElementTree.Element(f"{{{_SVG}}}title")
            label.text = tip
            element.insert(0, label)
            element.set("class", "mark")
        if element.tag.endswith("}g"):
            element.attrib.pop("id", None)
        _unstyled(element)
    root.attrib = {"viewBox": root.get("viewBox", ""), "class": "chart", "role": "img", "aria-label": title}
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _unstyled(element: ElementTree.Element) -> None:
    """Turn an element's style into attributes, and its colors into the page's."""
    declared = [part.partition(":") for part in element.attrib.pop("style", "").split(";") if part.strip()]
    for name, _, value in declared:
        if _ATTRIBUTES.match(name.strip()):
            element.set(name.strip(), value.strip())
    for name in ("fill", "stroke"):
        if (color := element.get(name, "").lower()) in _VARIABLES:
            element.set(name, _VARIABLES[color])
