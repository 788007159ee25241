"""`watch` in a real JupyterLab: seen live, and found again in the saved notebook."""

import time
from typing import Any
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.browser

SETUP = "from scripted_run import ScriptedRun, story\nfrom fl_kit.watcher import watch\n"
PROGRESS = "[role=progressbar]"


# The height of the live view in every frame that the browser paints.
RECORD = """() => {
  window.heights = new Set();
  const tick = () => {
    for (const svg of document.querySelectorAll('.jp-OutputArea-output svg[role=img]'))
      window.heights.add(svg.closest('.jp-OutputArea').offsetHeight);
    requestAnimationFrame(tick);
  };
  tick();
}"""


def frames(lab_page: Any, least: int) -> list[str]:
    """Distinct frames of the live view, in order, until there are `least` of them."""
    seen: list[str] = []
    lab_page.page.evaluate(RECORD)
    end = time.monotonic() + 60
    while len(seen) < least and time.monotonic() < end:
        for html in lab_page.outputs("svg[role=img]"):
            if html not in seen:
                seen.append(html)
        time.sleep(0.05)
    heights = lab_page.page.evaluate("() => [...window.heights]")
    assert len(heights) == 1, f"the picture jumps: {heights}"
    return seen


@pytest.mark.parametrize("silos", [4, 12])
def test_the_curve_moves_and_one_picture_stays(lab_page: Any, silos: int) -> None:
    name = f"live_{silos}.ipynb"
    source = f"{SETUP}run = watch(ScriptedRun(story(silos={silos}, rounds=20, fails=(1, 9)), delay=0.02))"
    lab_page.lab.write(name, source, "print('after', run.status)")
    lab_page.open(name)
    lab_page.run_all()

    seen = frames(lab_page, least=6)
    assert len(seen) >= 6
    lab_page.shoot(f"live_{silos}_light")
    rounds = [float(bar.split('aria-valuenow="')[1].split('"')[0]) for bar in lab_page.outputs(PROGRESS)]
    assert len(rounds) == 1

    lab_page.page.get_by_text("after completed").wait_for()
    lab_page.wait_until_idle()
    assert lab_page.outputs(PROGRESS) == []
    lab_page.shoot(f"end_{silos}_light")
    lab_page.use_theme("JupyterLab Dark")
    lab_page.shoot(f"end_{silos}_dark")
    lab_page.save()

    (output,) = lab_page.lab.read(name).cells[0].outputs
    assert output.output_type == "display_data"
    assert set(output.data) == {"image/svg+xml", "image/png", "text/plain"}
    root = ElementTree.fromstring(output.data["image/svg+xml"])
    assert "completed after 20 rounds" in root.attrib["aria-label"]


def test_the_interrupt_button_leaves_a_picture_and_halts_run_all(lab_page: Any) -> None:
    source = f"{SETUP}watch(ScriptedRun(story(silos=3, rounds=2000), delay=0.05))"
    lab_page.lab.write("interrupt.ipynb", source, "print('not' + ' reached')")
    lab_page.open("interrupt.ipynb")
    lab_page.run_all()
    frames(lab_page, least=2)
    lab_page.command("notebook:interrupt-kernel")
    lab_page.page.get_by_text("Stopped: run scripted was stopped on request").wait_for()
    lab_page.wait_until_idle()
    lab_page.shoot("interrupt")
    lab_page.save()
    cells = lab_page.lab.read("interrupt.ipynb").cells
    assert [output.output_type for output in cells[0].outputs] == ["display_data", "error"]
    assert "image/png" in cells[0].outputs[0].data
    assert cells[1].outputs == []


def test_the_saved_picture_needs_neither_kernel_nor_trust(lab_page: Any) -> None:
    lab_page.lab.write("again.ipynb", f"{SETUP}run = watch(ScriptedRun(story(silos=3), delay=0.01))")
    lab_page.open("again.ipynb")
    lab_page.run_all()
    lab_page.page.locator(".jp-OutputArea-output img").wait_for()
    lab_page.wait_until_idle()
    lab_page.save()

    path = lab_page.lab.folder / "again.ipynb"
    (lab_page.lab.folder / "foreign.ipynb").write_bytes(path.read_bytes().replace(b"in round 5", b"in round V"))
    lab_page.open("foreign.ipynb")
    picture = lab_page.page.locator(".jp-OutputArea-output img")
    picture.wait_for()
    assert picture.evaluate("e => e.complete && e.naturalWidth > 500")
    lab_page.shoot("untrusted")


def test_a_page_reloaded_in_the_middle_keeps_its_frame_and_can_watch_again(lab_page: Any) -> None:
    start = f"{SETUP}run = ScriptedRun(story(silos=3, rounds=20), delay=0.05)"
    lab_page.lab.write("reload.ipynb", start, "_ = watch(run)")
    lab_page.open("reload.ipynb")
    lab_page.run_all()
    frames(lab_page, least=3)
    lab_page.save()
    saved = lab_page.lab.read("reload.ipynb").cells[1].outputs
    assert [set(output.data) for output in saved] == [{"text/html", "text/plain"}]

    lab_page.page.reload()
    lab_page.open("reload.ipynb")
    lab_page.page.locator("svg[role=img]").wait_for()
    lab_page.page.locator(".jp-CodeCell").nth(1).locator(".jp-InputArea-editor").click()
    lab_page.command("notebook:run-cell")
    lab_page.page.locator(".jp-OutputArea-output img").wait_for()
    lab_page.wait_until_idle()
    lab_page.save()
    (output,) = lab_page.lab.read("reload.ipynb").cells[1].outputs
    assert "completed after 20 rounds" in output.data["image/svg+xml"]


def test_the_live_view_reads_in_the_dark_theme(lab_page: Any) -> None:
    lab_page.lab.write("dark.ipynb", f"{SETUP}run = watch(ScriptedRun(story(silos=5, rounds=40), delay=0.02))")
    lab_page.open("dark.ipynb", theme="JupyterLab Dark")
    lab_page.run_all()
    frames(lab_page, least=30)
    lab_page.shoot("live_5_dark")
    background = lab_page.page.evaluate(
        "() => getComputedStyle(document.querySelector('.jp-Notebook')).backgroundColor.match(/[0-9]+/g).map(Number)"
    )
    assert max(background[:3]) < 64, "the theme is not dark"
    # found and read in one call: the next frame replaces the nodes, and a node off the page has no style
    colours = lab_page.page.evaluate(
        "() => [...new Set([...document.querySelectorAll('svg[role=img] text')].map(n => getComputedStyle(n).fill))]"
    )
    assert len(colours) >= 2
    assert all(contrast(rgb(colour), background[:3]) >= 3 for colour in colours)


def rgb(colour: str) -> list[int]:
    return [int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")]


def contrast(a: list[int], b: list[int]) -> float:
    """The contrast ratio of two sRGB colours, as WCAG 2 defines it; 3 is its least for large or bold marks."""

    def luminance(colour: list[int]) -> float:
        linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)
