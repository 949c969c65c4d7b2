"""The picture of a step's memory: what it draws is what was counted, and it stands for itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest

from catalogs.catalog import read_catalog
from planner.asking.case import read_case
from planner.course import Course, course_of
from planner.estimate import answer
from planner.estimators.stretches import Stretch, TimeLine
from provision.cli import call
from provision.errors import Exit
from provision.report.areas import COLOURS, HEIGHT, WIDTH, render_page, render_svg

CATALOG = read_catalog()
CASE: dict[str, Any] = {"model": "8b", "quant": "nf4", "gpu": "RTX 4090", "engine": "closed_form"}
SVG = "{http://www.w3.org/2000/svg}"
TRACED = Course(
    line=TimeLine(
        engine="trace",
        num_events=5,
        stretches=(Stretch(instant="load", start=0, end=2), Stretch(instant="forward", start=2, end=5)),
        components={"weights": (2**30, 2 * 2**30, 2 * 2**30, 2 * 2**30, 2 * 2**30), "logits": (0, 0, 2**29, 2**30, 0)},
        reserved=(2**31, 2**31, 2**31, 3 * 2**30, 3 * 2**30),
    ),
    model="made up",
    available_bytes=None,
    untraced=None,
)


def closed() -> Course:
    return course_of(read_case(CASE), CATALOG)


def test_the_closed_form_s_instants_are_those_of_the_estimate() -> None:
    """Each point sums to what `by_instant` says, and why there are only instants is told."""
    course = closed()
    by_instant = answer(CASE, CATALOG, None)["vram"]["by_instant"]
    drawn = {stretch.instant: course.line.allocated[stretch.start] for stretch in course.line.stretches}
    assert drawn == {name: size for name, size in by_instant.items() if name != "evaluation"}
    assert course.untraced == "engine closed_form was asked for"


@pytest.mark.parametrize("course", [closed(), TRACED], ids=["closed form", "trace"])
def test_every_component_is_an_area_of_its_own_inside_the_picture(course: Course) -> None:
    root = ET.fromstring(render_svg(course))
    areas = root.findall(f"{SVG}polygon")
    assert [area.get("fill") for area in areas] == [f"var(--{name})" for name in COLOURS if name in course.line.components]
    for area in areas:
        corners = [tuple(map(float, pair.split(","))) for pair in area.attrib["points"].split()]
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in corners)
    words = [text.text for text in root.findall(f"{SVG}text")]
    assert f"peak {max(course.line.allocated) / 2**30:.2f}" in words
    assert bool(root.findall(f"{SVG}polyline")) == bool(course.line.reserved)


def test_areas_are_as_high_as_their_bytes() -> None:
    """The logits' highest point stands half as far above the weights as those above the ground."""
    weights, logits = (area.attrib["points"] for area in ET.fromstring(render_svg(TRACED)).findall(f"{SVG}polygon"))
    tops = [min(float(pair.split(",")[1]) for pair in points.split()) for points in (weights, logits)]
    ground = max(float(pair.split(",")[1]) for pair in weights.split())
    assert (tops[0] - tops[1]) / (ground - tops[0]) == pytest.approx(0.5, abs=0.01)


def test_every_role_and_component_has_a_colour() -> None:
    """What a trace or the closed form can name can be drawn."""
    from planner.estimators.memory import COMPONENTS
    from planner.estimators.trace.recorder import Role

    every = answer({"model": "7b", "num_gpus": 2, "sharding": "fsdp", "method": "full"}, CATALOG, None)["vram"]["components"]
    assert {*COMPONENTS, *map(str, Role), *every, "buckets", "autocast_copies"} <= set(COLOURS)


@pytest.mark.parametrize("render", [render_svg, render_page])
def test_a_picture_needs_nothing_from_elsewhere(render: Any) -> None:
    """No script, no font, no address but the name of SVG itself; and a dark theme."""
    text = render(msgspec.structs.replace(TRACED, model="<b>&"))
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert "<script" not in text
    assert "@import" not in text
    assert "<b>" not in text
    assert "prefers-color-scheme:dark" in text


def test_a_plot_is_written_beside_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "memory.html"
    options = ["--model", "8b", "--engine", "closed_form", "--plot", str(file)]
    assert call(["estimate", *options]) == Exit.OK
    assert file.read_text().startswith("<!doctype html>")
    told = capsys.readouterr()
    assert "Required of the card" in told.out
    assert "from the closed form, since engine closed_form was asked for" in told.err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("memory.png", "--plot draws .svg and .html files"), ("nowhere/memory.svg", "can't be written: No such file")],
)
def test_a_plot_that_can_t_be_made_is_one_sentence(
    name: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", "8b", "--engine", "closed_form", "--plot", str(tmp_path / name)]
    assert call(["estimate", *options]) == Exit.REFUSED
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_what_is_required_of_the_card_stands_beside_the_peak(tmp_path: Path) -> None:
    """The peak alone is less than what must be there: a margin, and what lies outside of torch."""
    said = [word for key, value in CASE.items() for word in (f"--{key}", value)]
    assert call(["estimate", *said, "--plot", str(tmp_path / "memory.svg")]) == Exit.OK
    drawn = (tmp_path / "memory.svg").read_text()
    required = answer(CASE, CATALOG, None)["vram"]["required_bytes"] / 2**30
    assert f">required {required:.2f}</text>" in drawn
    root = ET.fromstring(drawn)
    [line] = [each for each in root.findall(f"{SVG}line") if each.get("class") == "required"]
    [card] = [each for each in root.findall(f"{SVG}line") if each.get("class") == "card"]
    [peak] = root.findall(f"{SVG}circle")
    assert float(card.attrib["y1"]) < float(line.attrib["y1"]) < float(peak.attrib["cy"])
