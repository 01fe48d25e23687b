"""Chart specifications: pure functions from rows of figures to Altair charts.

Shares are drawn on a fixed 0 to 100 % axis. A model has the same colour and the same shape everywhere; the palette is
Okabe and Ito's (2008), which stays distinct for colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

BASELINE_COLOUR = "#6b7480"
COLOURS: tuple[str, ...] = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8f5bbf")
SHAPES: tuple[str, ...] = (
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)
_PERCENT = "round(datum.value * 100) + ' %'"
_WIDTH = 620

Row = Mapping[str, Any]


def _model_scales(models: Sequence[str], shown: Sequence[str] | None = None) -> tuple[alt.Scale, alt.Scale]:
    """Colour and shape by model; the baseline comes first (grey circle). Shapes shift by one each round of colours.

    `shown` are those that a chart draws: each keeps the look that it has among all.
    """
    others = range(len(models) - 1)
    colours = [BASELINE_COLOUR, *(COLOURS[i % len(COLOURS)] for i in others)]
    shapes = ["circle", *(SHAPES[(i + i // len(COLOURS)) % len(SHAPES)] for i in others)]
    kept = [place for place, model in enumerate(models) if shown is None or model in shown]
    domain = [models[place] for place in kept]
    return (
        alt.Scale(domain=domain, range=[colours[place] for place in kept]),
        alt.Scale(domain=domain, range=[shapes[place] for place in kept]),
    )


def _share_axis(title: str | None) -> alt.Axis:
    return alt.Axis(title=title, labelExpr=_PERCENT, values=[0, 0.2, 0.4, 0.6, 0.8, 1.0], labelFlush=False)


def _share(field: str, title: str | None, channel: type[Any]) -> Any:
    return channel(field, type="quantitative", axis=_share_axis(title), scale=alt.Scale(domain=[0, 1], nice=False))


def _dumbbell_panel(
    rows: Sequence[Row],
    models: Sequence[str],
    title: str,
    axis_title: str | None,
    shown: Sequence[str] | None = None,
    *,
    even: bool = False,
) -> alt.LayerChart:
    labels = list(dict.fromkeys(row["label"] for row in rows))
    colour, shape = _model_scales(models, shown)
    models = list(colour.domain)
    band = max(34, 15 * len(models) + 8)
    chart = alt.Chart(alt.Data(values=[dict(row) for row in rows]))
    y = alt.Y(
        "label",
        type="nominal",
        sort=labels,
        axis=alt.Axis(title=None, minExtent=130, grid=False),
        scale=alt.Scale(paddingInner=0.3, paddingOuter=0.15),
    )
    offset = alt.YOffset(
        "model", type="nominal", sort=list(models), scale=alt.Scale(paddingOuter=0.35, domain=list(models))
    )
    coloured = alt.Color("model", type="nominal", scale=colour, sort=list(models))
    span = (
        chart.transform_filter("isValid(datum.estimate)")
        .mark_bar(opacity=0.07, color="#1c2126", cornerRadius=4)
        .encode(
            y=y,
            x=alt.X("min(estimate):Q", scale=alt.Scale(domain=[0, 1]), axis=_share_axis(axis_title)),
            x2="max(estimate):Q",
        )
    )
    drawn = chart.transform_filter("isValid(datum.low)")
    whisker = drawn.mark_rule(strokeWidth=2.2, opacity=0.75).encode(
        y=y, yOffset=offset, color=coloured, x=_share("low", axis_title, alt.X), x2="high:Q"
    )
    point = (
        chart.transform_filter("isValid(datum.estimate)")
        .mark_point(size=105, opacity=1, strokeWidth=2, filled=True)
        .encode(
            y=y,
            yOffset=offset,
            x=_share("estimate", axis_title, alt.X),
            color=coloured,
            shape=alt.Shape("model", type="nominal", scale=shape, sort=list(models)),
        )
    )
    note = (
        chart.transform_filter("datum.note != ''")
        .transform_aggregate(note="max(note)", groupby=["label"])
        .mark_text(align="left", fontSize=12, fontStyle="italic", color="#1c2126", opacity=0.8, x=_WIDTH + 12)
        .encode(y=y, text="note:N")
    )
    drawn_at_even = (
        alt.Chart(alt.Data(values=[{"even": 0.5}]))
        .mark_rule(strokeDash=[5, 4], color="#1c2126", opacity=0.55)
        .encode(x=_share("even", axis_title, alt.X))
    )
    layers = alt.layer(*([drawn_at_even] if even else []), span, whisker, point, note)
    return layers.properties(width=_WIDTH, height=band * len(labels), title=title)


def dumbbell(rows: Sequence[Row], models: Sequence[str], axis_title: str) -> alt.VConcatChart:
    """One row per label, one point with its 95 % interval per model, panels by ``group``.

    Rows have ``group``, ``label``, ``model``, ``estimate``, ``low``, ``high`` (shares or None) and ``note`` (what is
    written at the right of a label, such as "too few to say").
    """
    groups = list(dict.fromkeys(row["group"] for row in rows))
    panels = [
        _dumbbell_panel(
            [row for row in rows if row["group"] == group], models, group, axis_title if group == groups[-1] else None
        )
        for group in groups
    ]
    return alt.vconcat(*panels, spacing=26)


def win_rates(rows: Sequence[Row], models: Sequence[str]) -> alt.LayerChart:
    """Win rates by label, a point with its interval per model, and the line at which neither is preferred.

    Rows are those of `dumbbell`; `models` are all, the baseline first, so that each looks as it does elsewhere.
    """
    shown = list(dict.fromkeys(row["model"] for row in rows))
    return _dumbbell_panel(rows, models, "", "preferred to the baseline, ties half", shown, even=True)


def trade_off(rows: Sequence[Row], models: Sequence[str], x_title: str, y_title: str) -> alt.LayerChart:
    """Two rates of each model against each other, 95 % intervals both ways.

    Rows have ``model``, ``x``, ``x_low``, ``x_high``, ``y``, ``y_low``, ``y_high``.
    """
    colour, shape = _model_scales(models)
    chart = alt.Chart(alt.Data(values=[dict(row) for row in rows]))
    coloured = alt.Color("model", type="nominal", scale=colour, sort=list(models))
    both = chart.transform_filter("isValid(datum.x) && isValid(datum.y)")
    across = both.transform_filter("isValid(datum.x_low)").mark_rule(strokeWidth=2.2, opacity=0.7)
    upright = both.transform_filter("isValid(datum.y_low)").mark_rule(strokeWidth=2.2, opacity=0.7)
    x, y = _share("x", x_title, alt.X), _share("y", y_title, alt.Y)
    return alt.layer(
        across.encode(x=_share("x_low", x_title, alt.X), x2="x_high:Q", y=y, color=coloured),
        upright.encode(x=x, y=_share("y_low", y_title, alt.Y), y2="y_high:Q", color=coloured),
        both.mark_point(size=150, opacity=1, strokeWidth=2, filled=True).encode(
            x=x, y=y, color=coloured, shape=alt.Shape("model", type="nominal", scale=shape, sort=list(models))
        ),
    ).properties(width=400, height=400)


def curves(rows: Sequence[Row], title: str, share: bool = False) -> alt.FacetChart:
    """Training curves, one small panel per model. Rows have ``model``, ``step``, ``value``."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    scale = alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=False)
    axis = _share_axis(title) if share else alt.Axis(title=title, tickCount=4)
    return (
        alt.Chart(alt.Data(values=[dict(row) for row in rows]))
        .mark_line(strokeWidth=2, color=COLOURS[0])
        .encode(
            x=alt.X(
                "step", type="quantitative", axis=alt.Axis(title="optimiser step", grid=False, tickCount=5, format="d")
            ),
            y=alt.Y("value", type="quantitative", axis=axis, scale=scale),
        )
        .properties(width=235, height=130)
        .facet(facet=alt.Facet("model", type="nominal", sort=models), columns=3, spacing=30)
        .resolve_scale(x="independent", y="shared" if share else "independent")
    )


def checkpoints(rows: Sequence[Row]) -> alt.FacetChart:
    """Dev checks during training, a panel per model. Rows have ``model``, ``step``, ``measure``, ``value``."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    line = alt.Chart(alt.Data(values=[dict(row) for row in rows])).encode(
        x=alt.X(
            "step", type="quantitative", axis=alt.Axis(title="optimiser step", grid=False, tickCount=5, format="d")
        ),
        y=_share("value", "share of dev prompts", alt.Y),
        color=alt.Color("measure", type="nominal", scale=alt.Scale(domain=measures, range=list(COLOURS[1:4]))),
        shape=alt.Shape(
            "measure", type="nominal", scale=alt.Scale(domain=measures, range=["circle", "square", "diamond"])
        ),
    )
    return (
        alt.layer(
            line.mark_line(strokeWidth=1.8).encode(shape=alt.Undefined),
            line.mark_point(size=80, filled=True, opacity=1),
        )
        .properties(width=235, height=170)
        .facet(facet=alt.Facet("model", type="nominal", sort=models), columns=3, spacing=30)
        .resolve_scale(x="independent")
    )
