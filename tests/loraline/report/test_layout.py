"""In a browser no page is wider than its window, on a phone and on a wide screen: `pytest -m browser`."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from loraline.evidence.schema import Evidence
from loraline.report.dataset_page import render_dataset_page
from loraline.report.mask_page import ForwardPass, render_mask_page
from loraline.report.run_page import render_run_page
from tests.loraline.report.test_model_card import REGISTRATION

pytestmark = pytest.mark.browser
PHONE, WIDE = 390, 1280
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files"),
)
FRAMES = """<!doctype html><body>{frames}<script>
onload = () => {{
  const widths = [...document.querySelectorAll("iframe")].map(
    (frame) => [frame.title, frame.contentDocument.documentElement.scrollWidth]);
  document.body.innerHTML = "<pre>" + JSON.stringify(widths) + "</pre>";
}};
</script>"""

Measure = Callable[[dict[str, str], int], dict[str, int]]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Gives the width that each page takes in a window of a width."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert chromium, "Chromium is not installed"

    def widths(pages: dict[str, str], width: int) -> dict[str, int]:
        for name, page in pages.items():
            (tmp_path / f"{name}.html").write_text(page, encoding="utf-8")
        frames = (f'<iframe title="{name}" src="{name}.html" width="{width}" height="900"></iframe>' for name in pages)
        (tmp_path / "frames.html").write_text(FRAMES.format(frames="".join(frames)), encoding="utf-8")
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [chromium, *FLAGS, profile, "--dump-dom", (tmp_path / "frames.html").as_uri()]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        found = re.search(r"<pre>(.*?)</pre>", shown)
        assert found, shown
        return dict(json.loads(found.group(1)))

    return widths


@pytest.mark.parametrize("width", [PHONE, WIDE])
def test_no_page_is_wider_than_its_window(
    measure: Measure, promoted_evidence: Evidence, rejected_evidence: Evidence, width: int
) -> None:
    data, mask = promoted_evidence.data, promoted_evidence.mask
    assert data
    assert mask
    pages = {
        "promote": render_run_page(promoted_evidence, REGISTRATION),
        "reject": render_run_page(rejected_evidence),
        "dataset": render_dataset_page(data),
        "mask": render_mask_page(mask, ForwardPass(mask.samples, 0, True), 900, "the tokenizer's chat template"),
    }
    found = measure(pages, width)
    assert set(found) == set(pages)
    assert all(taken <= width for taken in found.values()), found
