"""A run's panel on a page: its frames, its button, and its layout, measured in sizes and overlaps instead of pixels."""

import time
from typing import Any

PICTURE = ".jp-OutputArea-output svg[role=img]"


def press(page: Any, name: str) -> None:
    page.locator(".jp-OutputArea-output button", has_text=name).click()


def stop(page: Any) -> None:
    """Press Stop: within two seconds the partial curve stands there, with its status."""
    press(page, "Stop")
    page.wait_for_function(
        "s => !document.querySelector(s) || document.querySelector(s).textContent.includes('stopped after')",
        arg=PICTURE,
        timeout=2_000,
    )


def frames(page: Any, least: int) -> list[str]:
    """Distinct pictures, in order, until there are `least` of them; the output keeps its height meanwhile."""
    seen: list[str] = []
    heights = set()
    end = time.monotonic() + 60
    while len(seen) < least and time.monotonic() < end:
        found = page.evaluate(
            f"() => [...document.querySelectorAll('{PICTURE}')]"
            ".map(svg => [svg.outerHTML, svg.closest('.jp-OutputArea').offsetHeight])"
        )
        for html, height in found:
            heights.add(height)
            if html not in seen:
                seen.append(html)
        page.wait_for_timeout(50)
    assert len(heights) == 1, f"the panel jumps: {heights}"
    return seen


def overlaps(page: Any) -> list[str]:
    """Texts of the picture that cover one another, controls that do, and what is wider than its cell."""
    return list(
        page.evaluate(
            """() => {
              const found = [];
              const boxes = nodes => [...nodes].filter(n => n.textContent.trim() && n.getBoundingClientRect().width)
                .map(n => [n.textContent.trim(), n.getBoundingClientRect()]);
              const check = (list, along) => list.forEach(([a, p], i) => list.slice(i + 1).forEach(([b, q]) => {
                const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
                const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
                if (across > 1 && down > along) found.push(`${a} covers ${b}`);
              }));
              const svg = document.querySelector('.jp-OutputArea-output svg[role=img]');
              check(boxes(svg.querySelectorAll('text')), 4);
              const panel = svg.closest('.widget-vbox');
              check(boxes(panel.querySelectorAll('button, .widget-dropdown, [role=status]')), 1);
              const cell = svg.closest('.jp-OutputArea').getBoundingClientRect();
              for (const node of [svg, ...panel.querySelectorAll('button, select')])
                if (node.getBoundingClientRect().right > cell.right + 1) found.push(`${node.tagName} is cut off`);
              const box = svg.getBoundingClientRect();
              if (box.width < 600) found.push(`the picture is ${box.width} pixels wide`);
              if (Math.abs(box.height / box.width - svg.viewBox.baseVal.height / svg.viewBox.baseVal.width) > 0.02)
                found.push('the picture is distorted');
              const outer = panel.getBoundingClientRect();
              if (outer.bottom - box.bottom > 12) found.push(`${outer.bottom - box.bottom} empty pixels below`);
              return found;
            }"""
        )
    )
