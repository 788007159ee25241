"""Every public result as a notebook shows it: in JupyterLab, light and dark, with nothing that sticks out."""

from typing import Any

import pytest

pytestmark = pytest.mark.browser

SOURCE = """
from pathlib import Path
from IPython.display import HTML, display
from tests.shown_objects import every
for name, thing in every(Path("shown").resolve()).items():
    if name != "RunPanel":
        display(HTML(thing._repr_html_()))
print("all", "shown")
"""

# Texts whose contrast with what lies behind them is below WCAG's 4.5, and boxes that reach out of their output.
LOOK = """() => {
  const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const found = numbers(getComputedStyle(node).backgroundColor);
      if (found.length === 3 || found[3] > 0.99) return found;
    }
    return [255, 255, 255];
  };
  const faint = [], out = [], wrong = [];
  let cells = 0;
  for (const area of document.querySelectorAll('.jp-RenderedHTMLCommon.jp-OutputArea-output')) {
    const edge = area.getBoundingClientRect().right + 1;
    for (const node of area.querySelectorAll('td, th, div')) {
      cells += node.tagName === 'TD';
      const own = [...node.childNodes].some(each => each.nodeType === 3 && each.data.trim());
      if (node.tagName === 'DIV' && !own) continue;
      const [a, b] = [light(numbers(getComputedStyle(node).color)), light(behind(node))];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < 4.5) faint.push([node.textContent, contrast]);
      if (!node.closest('table') && node.getBoundingClientRect().right > edge) out.push(node.textContent);
      const side = node.style.textAlign;
      if (side && getComputedStyle(node).textAlign !== side) wrong.push(node.textContent);
    }
    for (const table of area.querySelectorAll('table'))
      if (table.parentElement.getBoundingClientRect().right > edge) out.push(table.textContent);
  }
  const page = document.querySelector('.jp-WindowedPanel-outer, .jp-Notebook');
  return {cells, faint, out, wrong, wider: page.scrollWidth - page.clientWidth};
}"""


def test_every_result_reads_in_light_and_dark(lab_page: Any) -> None:
    lab_page.lab.write("shown.ipynb", SOURCE)
    lab_page.page.set_viewport_size({"width": 1000, "height": 6000})
    lab_page.open("shown.ipynb")
    lab_page.run_all()
    lab_page.page.locator(".jp-OutputArea-output pre", has_text="all shown").wait_for()
    for theme in ("Light", "Dark"):
        lab_page.use_theme(f"JupyterLab {theme}")
        lab_page.shoot(f"shown_{theme.lower()}")
        found = lab_page.page.evaluate(LOOK)
        assert found["cells"] > 300
        assert (found["faint"], found["out"], found["wrong"], found["wider"]) == ([], [], [], 0)
