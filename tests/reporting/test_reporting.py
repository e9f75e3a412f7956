"""The shell, building blocks and plots of every page; one table in four forms."""

import math
import re

import numpy as np
import pytest

from covidcxnet.reporting import pages, plots
from covidcxnet.reporting import table as tables
from covidcxnet.reporting.table import Cell, Estimate, Html, Share, Table


def test_a_page_needs_no_other_file_and_carries_style_and_notice():
    shell = '{% extends "page.html" %}{% import "macros.html" as m %}{% block body %}{{ m.footer(day) }}{% endblock %}'
    page = pages.environment().from_string(shell).render(title="a <title>", day="2026-11-27")
    assert "<title>a &lt;title&gt;</title>" in page and "--ink" in page
    assert pages.NOTICE in page and "2026-11-27" in page
    assert "src=" not in page and "href=" not in page


def test_same_figure_same_bytes(tmp_path):
    def draw():
        figure, (left, right) = plots.figure(4, 2, 1, 2, dpi=50)
        left.plot([0, 1], [0, 1], **plots.line(0, marker=True))
        plots.unit_square(left)
        plots.image(right, np.eye(4), "costs $5 and $6")
        return figure

    svg, png = plots.svg(draw()), plots.png(draw())
    assert plots.save(draw(), tmp_path / "a.png").read_bytes() == png
    assert plots.save(draw(), tmp_path / "a.svg").read_text(encoding="utf-8") == svg
    assert plots.data_uri(draw()).startswith("data:image/svg+xml;base64,")
    assert plots.data_uri(png).startswith("data:image/png;base64,")


def test_lines_differ_without_colour_and_a_curve_without_its_straight_points_is_the_same_curve():
    drawn = [plots.line(k) for k in range(2 * len(plots.COLOURS))]
    assert len({(line["color"], str(line["linestyle"])) for line in drawn}) == len(drawn)
    assert len({str(line["linestyle"]) for line in drawn[: len(plots.COLOURS)]}) == len(plots.COLOURS)
    curve = np.array([[0, 0], [0, 0.25], [0, 0.5], [0.5, 0.5], [1, 1]], float)
    assert plots.corners(curve).tolist() == [[0, 0], [0, 0.5], [0.5, 0.5], [1, 1]]
    assert plots.corners(curve[:2]).tolist() == curve[:2].tolist()


SURE = Estimate(0.941, 0.912, 0.968, 0, 200)
PARTLY = Estimate(0.5, 0.25, 0.75, 12, 200)
STILL = Estimate(1.0, undefined=0, resamples=200)
UNDEFINED = Estimate(math.nan)
BELOW_ZERO = Estimate(-0.01, -0.05, 0.03, 0, 200)


@pytest.mark.parametrize(
    ("estimate", "how", "expected"),
    [
        (SURE, {}, "0.941 (0.912 to 0.968)"),
        (SURE, {"percent": True}, "94.1% (91.2 to 96.8%)"),
        (BELOW_ZERO, {"signed": True}, "-0.010 (-0.050 to +0.030)"),
        (Estimate(0.5), {}, "0.500"),
        (UNDEFINED, {}, "undefined"),
        (None, {}, "–"),
    ],
)
def test_a_figure_is_written_with_its_interval(estimate, how, expected):
    assert tables.with_interval(estimate, **how) == expected


def test_numbers_counts_large_numbers_shares_and_estimates_that_survive_json():
    assert tables.number(0.12345) == "0.123"
    assert tables.number(math.nan) == "undefined"
    assert tables.interval(Estimate(0.5)) == ""
    counts = [tables.count(1, "image"), tables.count(2000, "image"), tables.count(2, "class", "classes")]
    assert counts == ["1 image", "2,000 images", "2 classes"]
    assert [tables.large(7_050_000), tables.large(1.4e9), tables.large(12), tables.large(None)] == [
        "7.05 M",
        "1.4 G",
        "12",
        "–",
    ]
    shares = [str(Share(3, 81)), str(Share(2.5, 1000)), str(Share(3, None))]
    assert shares == ["3 of 81 (3.7%)", "2.5 of 1,000 (0.2%)", "3"]
    for estimate in (SURE, PARTLY, Estimate(0.25)):
        assert Estimate.from_dict(estimate.to_dict(), estimate.resamples).to_dict() == estimate.to_dict()
    assert math.isnan(Estimate.from_dict(None).value)


def test_html_escapes_all_but_html():
    html = Table(["a<b", Html("<i>x</i>")], [["<script>", Html("<b>y</b>")]], caption="1 < 2", note="a & b").html()
    for text in ("a&lt;b", "<i>x</i>", "&lt;script&gt;", "<b>y</b>", "1 &lt; 2", "a &amp; b"):
        assert text in html


def test_html_stacks_the_interval_below_the_figure_and_marks_what_it_omits():
    html = Table(["", "AUROC"], [["a", SURE], ["b", PARTLY], ["c", STILL], ["d", None], ["e", BELOW_ZERO]]).html()
    cells = [re.sub("<[^>]+>", "|", cell) for cell in re.findall("<td>(.*?)</td>", html)]
    assert cells == [
        "|0.941||0.912–0.968|",
        "|0.500|†|||0.250–0.750|",
        "|1.000|‡||",
        "–",
        "|-0.010||-0.050 to 0.030|",
    ]
    assert "† Undefined in some resamples (at most 12 of 200)" in html and "‡ The same in every resample" in html
    # only estimates from resamples have footnotes
    assert tables.footnotes([SURE]) == [] and tables.footnotes([Estimate(0.5, 0.5, 0.5)]) == []
    assert len(tables.footnotes([PARTLY, STILL])) == 2


def test_rows_are_grouped_a_cell_says_more_and_csv_holds_plain_numbers():
    table = Table(["run", "images"], [["a", 1200], "Published", ["b", None]])
    assert table.html().count("<tbody") == 2 and 'colspan="2">Published' in table.html()
    assert table.markdown().splitlines()[3] == "| **Published** |  |"
    assert table.text().splitlines()[2] == "Published"
    assert table.csv() == "run,images\na,1200\nb,\n"
    assert Table(["run"], [["a\tb\nc"]]).text().splitlines()[1] == r"a\tb\nc"
    table = Table(["name", "auroc", "s"], [["a, b", SURE, 1.25], ["c", None, math.nan]])
    assert table.csv() == 'name,auroc,auroc_low,auroc_high,s\n"a, b",0.941,0.912,0.968,1.25\nc,,,,\n'
    table = Table(
        ["", "x"], [["a", Cell(SURE, percent=True, spread=True, below=["3 of 81"], alert=["never predicted"])]]
    )
    assert '<span class="interval">91.2–96.8% range</span><span class="interval">3 of 81</span>' in table.html()
    assert '<span class="alert">never predicted</span>' in table.html()
    assert table.markdown().splitlines()[-1] == "| a | 94.1% (range 91.2 to 96.8%); 3 of 81; never predicted |"


def test_markdown_keeps_its_columns_whatever_stands_in_a_cell_and_text_aligns_them():
    lines = Table(["a|b", "n"], [["x\ny", 1]], caption="Above", note="Below").markdown().splitlines()
    assert lines == ["Above", "", "| a\\|b | n |", "| --- | ---: |", "| x y | 1 |", "", "Below"]
    hostile = Table(["<b>", "n"], [["[a](http://b)&lt; <img src=x>", 1]]).markdown()
    assert hostile.startswith("| &lt;b> | n |") and "| [a]\\(http://b)&amp;lt; &lt;img src=x> | 1 |" in hostile
    rows = [["covid19", 1200, SURE], ["normal", 3, UNDEFINED]]
    lines = Table(["class", "images", "AUROC"], rows).text(indent=2).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "  covid19   1,200  0.941 (0.912 to 0.968)"
