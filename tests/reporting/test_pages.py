"""The shell, the building blocks and the plots of every page."""

import numpy as np
import pytest

from covidcxnet.reporting import pages, plots


def test_a_page_needs_no_other_file_and_carries_style_and_notice():
    shell = '{% extends "page.html" %}{% import "macros.html" as m %}{% block body %}{{ m.footer(day) }}{% endblock %}'
    page = pages.environment().from_string(shell).render(title="a <title>", day="2026-11-27")
    assert "<title>a &lt;title&gt;</title>" in page and "--ink" in page
    assert pages.NOTICE in page and "2026-11-27" in page
    assert "src=" not in page and "href=" not in page


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('{{ m.header("A & B", "today") }}', "<h1>A &amp; B</h1>"),
        ('{{ m.figure("data:x", "what it shows", "below") }}', '<img src="data:x" alt="what it shows">'),
        ('{{ m.callout("Before", [("Title", "text"), "alone"]) }}', "<li><strong>Title.</strong> text</li>"),
        ('{{ m.headline([("AUROC", "0.9", "0.8 to 1")]) }}', '<span class="value">0.9</span>'),
        ('{{ m.banner("Phantoms.") }}', '<p class="phantom"><strong>Phantoms.</strong></p>'),
        ('{% call m.section("roc", "ROC") %}<p>x</p>{% endcall %}', '<section id="roc"><h2>ROC</h2>'),
        ('{{ m.nav([("roc", "ROC")]) }}', '<a href="#roc">ROC</a>'),
        ('{{ m.notes(["a", "", none]) }}', '<p class="note">a</p>'),
        ('{{ m.footer("now") }}', pages.NOTICE),
        # what is empty is left out
        ('x{{ m.callout("Before", []) }}x', "xx"),
        ('{{ m.definitions([("a", 0), ("b", ""), ("c", none)]) }}', "<dt>a</dt>"),
    ],
)
def test_building_blocks(template, expected):
    html = pages.environment().from_string('{% import "macros.html" as m %}' + template).render()
    assert expected in html and "<dt>b</dt>" not in html and "<dt>c</dt>" not in html


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
