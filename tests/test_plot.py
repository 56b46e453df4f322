"""Charts: points lie where the scale says, ticks are round, nothing leaves the picture."""

import xml.etree.ElementTree as ElementTree

import pytest

from report.plot import Line, Panel, chart, round_ticks

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg, tag) -> list:
    return list(ElementTree.fromstring(svg).iter(SVG + tag))


def coordinates(element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in element.get("points").split()]


def test_points_lie_where_the_scale_says():
    lines = [
        Line("a < b & c", "#000000", [(0, 20, 5), (10, 60, 5), (50, 100, 5)]),
        Line("level", "#777777", [(0, 50), (50, 50)], dashed=True),
    ]
    svg = chart([Panel("title", "x, %", "y, %", lines, [0, 10, 30, 50])])
    # The box: 56 to 702 px wide and 30 to 260 px high, for x from 0 to 50 and y from 0 to 100.
    a, level = [coordinates(e) for e in drawn(svg, "polyline")[:2]]
    assert a == [(56, 214), (185.2, 122), (702, 30)] and level == [(56, 145), (702, 145)]
    (band,) = map(coordinates, drawn(svg, "polygon"))
    assert band == [
        (56, 202.5),
        (185.2, 110.5),
        (702, 30),
        (702, 41.5),
        (185.2, 133.5),
        (56, 225.5),
    ]  # cut at 100%
    assert len(drawn(svg, "circle")) == 3  # a level has no markers
    assert {"a < b & c", "level", "x, %", "y, %", "title", "30"} <= {
        e.text for e in drawn(svg, "text")
    }


def test_logarithmic_axis_and_panels_side_by_side():
    panel = Panel(
        "t",
        "x",
        "y",
        [Line("a", "#000000", [(100, 0), (400, 50), (1600, 100)])],
        [100, 400, 1600],
        log=True,
    )
    first, second = [coordinates(e) for e in drawn(chart([panel, panel]), "polyline")[:2]]
    assert first == [(56, 260), (199, 145), (342, 30)]  # 400 lies halfway between 100 and 1600
    assert second == [(x + 360, y) for x, y in first]


def test_round_ticks():
    assert round_ticks(39, 97) == [20, 40, 60, 80, 100] and round_ticks(0, 190) == [
        0,
        50,
        100,
        150,
        200,
    ]
    assert round_ticks(90, 95) == [90, 91, 92, 93, 94, 95] and round_ticks(50, 50)[-1] == 50
    assert round_ticks(0, 0)[0] == 0 and round_ticks(0, 0)[-1] == 1


def test_pictures_are_well_formed_and_stay_inside(study_report):
    for name, svg in study_report.pictures.items():
        root = ElementTree.fromstring(svg)
        width, height = float(root.get("width")), float(root.get("height"))
        assert width == 720 and "nan" not in svg, name
        for element in drawn(svg, "polyline") + drawn(svg, "polygon"):
            assert all(0 <= x <= width and 0 <= y <= height for x, y in coordinates(element)), name
    # Steps 0 to 40 (the rows by hand end there) over 286 px, for the first of the lines.
    first = coordinates(drawn(study_report.pictures["long.svg"], "polyline")[0])
    assert [x for x, _ in first] == pytest.approx([56, 199, 342], abs=0.06)
