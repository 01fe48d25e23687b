"""Draw a chart as an inline SVG that can do nothing but be looked at.

vl-convert turns the Vega-Lite specification into SVG without a browser; then only the shapes and presentation
attributes listed here are kept, so that no name in the data can become an element, a link or an event handler.
Colours become CSS variables, which lets the page's dark theme restyle the drawing.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

import altair as alt
import vl_convert
from markupsafe import Markup

FONT = "system-ui, Noto Sans, sans-serif"
_SVG = "{http://www.w3.org/2000/svg}"
_ELEMENTS = frozenset({"svg", "g", "path", "rect", "line", "circle", "text", "tspan"})
_PLACE = frozenset(
    {"viewBox", "width", "height", "transform", "d", "x", "y", "x1", "x2", "y1", "y2", "dx", "dy"}
    | {"cx", "cy", "r", "rx", "ry"}
)
_LOOK = frozenset(
    {"fill", "fill-opacity", "opacity", "stroke", "stroke-dasharray", "stroke-linecap", "stroke-linejoin"}
    | {"stroke-miterlimit", "stroke-opacity", "stroke-width"}
    | {"font-family", "font-size", "font-style", "font-weight", "text-anchor"}
)
_ATTRIBUTES = _PLACE | _LOOK
_WIDE = 600  # pixels; wider charts are not shrunk to a phone's width but scrolled
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def themed(chart: alt.TopLevelMixin) -> alt.TopLevelMixin:
    """The chart with the page's type and quiet axes; text takes the colour of the page."""
    ink = "#1c2126"
    axis = {
        "labelColor": ink,
        "titleColor": ink,
        "labelFontSize": 13,
        "titleFontSize": 13,
        "titleFontWeight": 500,
        "titlePadding": 10,
        "labelLimit": 0,
        "titleLimit": 0,
        "domain": False,
        "ticks": False,
        "labelPadding": 8,
        "gridColor": ink,
        "gridOpacity": 0.12,
    }
    legend = {
        "labelColor": ink,
        "titleColor": ink,
        "labelFontSize": 13,
        "titleFontSize": 13,
        "labelLimit": 0,
        "symbolSize": 110,
        "symbolStrokeWidth": 2,
        "symbolOpacity": 1,
        "orient": "top",
        "columns": 3,
        "columnPadding": 22,
        "title": None,
        "offset": 12,
    }
    title = {"color": ink, "fontSize": 13.5, "fontWeight": 600, "anchor": "start", "frame": "group", "limit": 0}
    header = {"labelColor": ink, "labelFontSize": 13, "labelFontWeight": 600, "labelLimit": 0, "title": None}
    return chart.configure(
        font=FONT, background="transparent", view={"stroke": None}, axis=axis, legend=legend, title=title, header=header
    )


def _clean(element: ElementTree.Element) -> None:
    for child in list(element):
        if child.tag.removeprefix(_SVG) not in _ELEMENTS or child.get("display") == "none":
            element.remove(child)
        else:
            _clean(child)
    element.tag = element.tag.removeprefix(_SVG)
    kept = {name: value for name, value in element.attrib.items() if name in _ATTRIBUTES}
    element.attrib.clear()
    for name, value in kept.items():
        element.set(name, _COLOUR.sub(lambda hit: f"var(--c{hit[0][1:].lower()},{hit[0]})", value))


def draw(chart: alt.TopLevelMixin, label: str) -> Markup:
    """The chart as an ``<svg role="img">`` with an accessible label; safe to put into a page as it is."""
    raw = vl_convert.vegalite_to_svg(themed(chart).to_dict())
    root = ElementTree.fromstring(raw)
    _clean(root)
    root.set("role", "img")
    root.set("aria-label", label)
    root.set("class", "chart wide" if float(root.get("width", "0")) > _WIDE else "chart")
    # The one place where the page takes markup: ours, cleaned above, text escaped by the serialiser.
    return Markup(ElementTree.tostring(root, encoding="unicode"))
