"""The report's page as a browser shows it: laid out, both plots visible, nothing fetched, nothing wider than the window."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from provision.report.page import render_page
from provision.watch.view import View
from tests.provision.plans import tiny_files, tiny_plan
from tests.provision.test_receipt import outcome_of, receipt_of, run_state

pytestmark = pytest.mark.page

VIEW = View(losses=((1, 5.0), (2, 4.0), (3, 3.5)), held_out=((0, 5.2), (3, 4.0)), memory=((10.0, 2**30), (11.0, 2**30 + 5)))
# Measures the laid-out page from inside; the page itself has no script.
RULER = """<script>
const plots = [...document.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
document.title = JSON.stringify({
  plots: plots.map(box => [box.width, box.height]),
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  fetched: performance.getEntriesByType("resource").length,
});
</script>"""


def in_chromium(page: str, folder: Path, width: int) -> dict[str, object]:
    """What the page measures in a window `width` pixels wide."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.fail("Chromium is not there; install it with: make setup")
    file = folder / "report.html"
    file.write_text(page.replace("</body>", f"{RULER}</body>"))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--window-size={width},1600", "--dump-dom", file.as_uri()]
    environment = os.environ | {"HOME": str(folder)}
    dom = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=240).stdout
    found = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert found is not None
    measured: dict[str, object] = json.loads(found[1])
    return measured


@pytest.mark.parametrize("width", [1200, 700])
def test_the_report_is_laid_out_in_a_browser(tmp_path: Path, width: int) -> None:
    """Memory and loss are drawn at a size that can be read; nothing is fetched; no line runs out of the window."""
    plan = tiny_plan(*tiny_files(tmp_path))
    page = render_page(receipt_of(plan, run_state(plan), outcome_of()), plan, VIEW)
    measured = in_chromium(page, tmp_path, width)
    assert measured["fetched"] == 0
    assert measured["overflow"] == 0
    plots = measured["plots"]
    assert isinstance(plots, list)
    assert len(plots) == 2
    assert all(plot[0] > 300 and plot[1] > 100 for plot in plots)
