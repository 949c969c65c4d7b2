"""The report's page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from catalogs.catalog import read_catalog
from planner.asking.options.command_line import spelled
from provision.report.page import render_page
from provision.report.plan_page import render_plan_page
from remote.contract import Sample
from tests.answer_page import answer
from tests.provision.account.receipts import outcome_of, receipt_of, run_state
from tests.provision.plans import tiny_files, tiny_plan
from tests.provision.report.test_report import CURVES

pytestmark = pytest.mark.page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Asked in the browser: is anything wider than the window, and are the plots and both themes' colours there?
PROBE = """<script>
const lines = cell => {  // lines that the cell's text takes
  const range = document.createRange();
  range.selectNodeContents(cell);
  return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size;
};
const root = document.documentElement, body = getComputedStyle(document.body);
const plots = [...document.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
document.title = JSON.stringify({
  too_wide: root.scrollWidth - root.clientWidth,
  plots: plots.filter(box => box.height > 100).length,
  ground: body.backgroundColor,
  ink: body.color,
  broken_words: [...document.querySelectorAll("th")].filter(cell => !cell.textContent.includes(" ") && lines(cell) > 1).length,
});
</script>"""


@pytest.fixture
def browser() -> str:
    """A Chromium; without one this fails and says how to get it."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.fail("no Chromium on PATH; `make setup` installs it, or: sudo apt-get install chromium")
    return found


def seen(browser: str, page: Path, profile: Path, *arguments: str) -> dict[str, object]:
    """What the probe wrote into the title."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [browser, *flags, *arguments, "--dump-dom", page.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None
    found: dict[str, object] = json.loads(title[1].replace("&quot;", '"'))
    return found


def test_a_narrow_window_shows_it_whole_in_light_and_dark(browser: str, tmp_path: Path) -> None:
    """Nothing runs out of the page, both plots are drawn, and the two themes are two."""
    plan = tiny_plan(*tiny_files(tmp_path))
    long_answer = Sample(prompt="What?", reference="a" * 300, before="b c " * 200, after="d")
    receipt = receipt_of(plan, run_state(plan), outcome_of(samples=(long_answer,)))
    page = tmp_path / "report.html"
    page.write_text(render_page(receipt, plan, CURVES).replace("</body>", f"{PROBE}</body>"))
    light = seen(browser, page, tmp_path / "light", "--window-size=600,900")
    dark = seen(browser, page, tmp_path / "dark", "--window-size=600,900", "--blink-settings=preferredColorScheme=0")
    assert light["too_wide"] == dark["too_wide"] == 0
    assert light["plots"] == dark["plots"] == 2
    assert (light["ground"], light["ink"]) != (dark["ground"], dark["ink"])
    assert light["broken_words"] == 0


def test_the_page_of_a_plan_is_whole_on_a_phone_in_light_and_dark(browser: str, tmp_path: Path) -> None:
    """The shipped market's answer: one plot, and nothing runs out of the page."""
    plans = answer(read_catalog())
    page = tmp_path / "plan.html"
    text = render_plan_page(plans, plans, command="rentune run --model 32b", spelled=spelled)
    page.write_text(text.replace("</body>", f"{PROBE}</body>"))
    light = seen(browser, page, tmp_path / "light", "--window-size=500,900")
    dark = seen(browser, page, tmp_path / "dark", "--window-size=500,900", "--blink-settings=preferredColorScheme=0")
    assert (light["too_wide"], light["broken_words"], light["plots"]) == (0, 0, 1)
    assert (light["ground"], light["ink"]) != (dark["ground"], dark["ink"])


def test_a_phone_shows_every_table_and_plot(browser: str, tmp_path: Path) -> None:
    """At 500 pixels, the least that a window takes: nothing runs out of the page, no word of a table's head is broken."""
    plan = tiny_plan(*tiny_files(tmp_path))
    page = tmp_path / "report.html"
    page.write_text(
        render_page(receipt_of(plan, run_state(plan), outcome_of()), plan, CURVES).replace("</body>", f"{PROBE}</body>")
    )
    phone = seen(browser, page, tmp_path / "phone", "--window-size=500,900")
    assert (phone["too_wide"], phone["broken_words"], phone["plots"]) == (0, 0, 2)
