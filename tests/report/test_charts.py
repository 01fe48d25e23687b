"""Chart specifications: the data and encodings they promise, and drawings that hold no more than shapes."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from alignprism.report import charts
from alignprism.report.figures import Figures
from alignprism.report.svg import draw
from alignprism.report.tables import by_slice, head
from alignprism.report.wording import percent, points, relative
from alignprism.rows import Figure

MODELS = ("base", "dpo-sft")


def rows() -> list[dict[str, Any]]:
    found = []
    for group, label in (("trained", "Hindi"), ("zero-shot", "Serbian")):
        for place, model in enumerate(MODELS):
            bounds = {"low": 0.3, "high": 0.7} if group == "trained" else {"low": None, "high": None}
            note = "" if group == "trained" else "too few to say (n = 8)"
            row = {"group": group, "label": label, "model": model, "estimate": 0.5 - place / 10, **bounds, "note": note}
            found.append(row)
    return found


def specs(node: Any, key: str) -> list[Any]:
    if isinstance(node, dict):
        return [v for k, v in node.items() if k == key] + [x for v in node.values() for x in specs(v, key)]
    return [x for v in node for x in specs(v, key)] if isinstance(node, list) else []


def test_dumbbell_has_a_panel_per_group_and_a_fixed_share_axis() -> None:
    spec = charts.dumbbell(rows(), MODELS, "harmful").to_dict()
    assert [panel["title"] for panel in spec["vconcat"]] == ["trained", "zero-shot"]
    for panel in spec["vconcat"]:
        for layer in panel["layer"]:
            x = layer["encoding"].get("x", {})
            assert "scale" not in x or x["scale"]["domain"] == [0, 1]
    values = [value for values in specs(spec, "values") for value in values if isinstance(value, dict)]
    values += [value for data in spec.get("datasets", {}).values() for value in data]
    assert {row["label"] for row in values} == {"Hindi", "Serbian"}


def test_models_differ_in_colour_and_in_shape_and_keep_them() -> None:
    models = ("base", *(f"m{i}" for i in range(20)))
    colour, shape = (scale.to_dict() for scale in charts._model_scales(models))
    assert colour["domain"] == list(models) and colour["range"][0] == charts.BASELINE_COLOUR
    looks = list(zip(colour["range"], shape["range"], strict=True))
    assert len(set(looks)) == len(models)
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in pairwise(looks[:8]))


def test_the_drawing_says_where_there_is_too_little_and_draws_no_interval_there() -> None:
    svg = str(draw(charts.dumbbell(rows(), MODELS, "harmful"), "label"))
    assert svg.count("too few to say (n = 8)") == 1
    only_unseen = str(draw(charts.dumbbell(rows()[2:], MODELS, "harmful"), "label"))
    assert svg.count('stroke-width="2.2"') == 2 and 'stroke-width="2.2"' not in only_unseen


def test_a_drawing_holds_shapes_and_text_only() -> None:
    hostile = [{**row, "label": '<script>alert(1)</script>"><a href="javascript:x">'} for row in rows()]
    svg = str(draw(charts.dumbbell(hostile, MODELS, "harmful"), 'a "label" <b>'))
    assert set(re.findall(r"<([a-z]+)", svg)) <= {"svg", "g", "path", "rect", "line", "circle", "text", "tspan"}
    assert "&lt;script&gt;" in svg and "xmlns" not in svg and " style=" not in svg
    assert svg.startswith("<svg ") and 'aria-label="a &quot;label&quot; &lt;b&gt;"' in svg


def test_trade_off_has_intervals_both_ways_on_fixed_axes() -> None:
    row = {"model": "base", "x": 0.5, "x_low": 0.4, "x_high": 0.6, "y": 0.3, "y_low": 0.2, "y_high": 0.4}
    spec = charts.trade_off([row], ["base"], "harm", "safe").to_dict()
    encodings = [layer["encoding"] for layer in spec["layer"]]
    assert encodings[0]["x2"]["field"] == "x_high" and encodings[1]["y2"]["field"] == "y_high"
    assert all(e[axis]["scale"]["domain"] == [0, 1] for e in encodings for axis in "xy")


def test_numbers_are_rounded_without_becoming_nothing() -> None:
    assert [percent(share).replace("\u00a0", " ") for share in (0, 0.004, 0.54, 0.999, 1)] == [
        "0 %",
        "< 1 %",
        "54 %",
        "> 99 %",
        "100 %",
    ]
    assert percent(0.1234, 1000).replace("\u00a0", " ") == "12.3 %"
    assert [points(share) for share in (-0.32, 0.05, 0, -0.004)] == ["−32", "+5", "0", "−0.4"]
    assert relative(-0.6).replace("\u00a0", " ") == "−60 %"


def test_a_cell_without_interval_carries_a_mark_that_leads_to_the_reason() -> None:
    without = Figure("harmful_rate", "", "base", n=8, clusters=8, estimate=0.5, reason="too few clusters (8 < 10)")
    figures = Figures([{name: getattr(without, name) for name in without.__slots__}])
    (table,) = by_slice(figures, "t", "slice", [(head("all"), {})], ["base"], "base")
    assert table.notes == (("a", "too few clusters (8 < 10)"),)
    assert table.rows[0][-1].mark == "a" and table.rows[0][-1].text.startswith("50")
