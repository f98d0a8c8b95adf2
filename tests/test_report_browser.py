"""The report page in a real browser: opens from a file, asks for nothing, shows what the reports say, answers a click, readable on a phone and in the dark."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Page, find_chromium
from conftest import RunCli

from fpga_squeeze import jobs
from fpga_squeeze.report import html
from fpga_squeeze.verify.checks import VerifyOptions
from fpga_squeeze.zoo import embedded_images

LOAD_LIMIT_S = 2.0
CONTRAST = 4.5
PHONE = {"width": 390, "height": 844, "phone": True}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with Browser(program) as found:
        yield found


@pytest.fixture(scope="module")
def full_out(digits_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that was evaluated and verified, so that every part of its page is filled."""
    out = tmp_path_factory.mktemp("page") / "out"
    shutil.copytree(digits_out, out)
    jobs.evaluate(out, embedded_images("test"), None, 30)
    jobs.verify(out, VerifyOptions(hls=True, frames=1))
    return out


def opened(browser: Browser, out: Path, **options: Any) -> Page:
    page = browser.page(**options)
    page.goto((out / html.PAGE).resolve().as_uri())
    return page


def clean(page: Page) -> None:
    """No message on the console, and nothing asked for but the file itself and what it carries."""
    assert page.messages == []
    assert [r for r in page.requests if not r.startswith(("file://", "data:"))] == []
    assert len([r for r in page.requests if r.startswith("file://")]) == 1


@pytest.mark.parametrize("options", [{}, {"dark": True}, PHONE, PHONE | {"dark": True}], ids=["light", "dark", "phone", "phone-dark"])
def test_opens_from_a_file_without_errors_or_requests(browser: Browser, full_out: Path, options: dict[str, Any]) -> None:
    page = opened(browser, full_out, **options)
    assert page.loaded_s is not None and page.loaded_s < LOAD_LIMIT_S
    clean(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= options.get("width", 1280), "nothing sticks out sideways"
    picture = ".narrow" if options.get("phone") else ".wide"
    assert page.evaluate(f"document.querySelector('{picture} svg').getBoundingClientRect().width") > 250
    assert page.evaluate("[...document.images].every((i) => i.naturalWidth > 0)"), "every picture decodes"


def test_key_numbers_equal_the_reports(browser: Browser, full_out: Path) -> None:
    page, known = opened(browser, full_out), html.read_reports(full_out)
    compared = sum(c["compared"] for c in known["verification"]["checks"])
    assert page.text("#card-fits .number") == f"{known['memory_budget']['total_bytes'] / 1000:.1f} kB"
    assert page.text("#card-speed .number") == f"{known['performance']['fps']:,.1f}"
    assert page.text("#card-accuracy .number") == f"{known['accuracy']['fixed']['top1']:.1f}%"
    assert page.text("#card-proven .number") == f"{compared:,}"
    assert page.text("#mac-efficiency") == f"{known['performance']['mac_efficiency']:.3f}"
    table = page.evaluate("[...document.querySelectorAll('.matrix tbody tr')].map((r) => [...r.children].map((c) => c.textContent.trim()))")
    cells = {(c["stage"], c["implementation"]): c for c in known["verification"]["checks"]}
    heads = ("reference", "fast", "hls", "verilator", "icarus", "onnx")
    assert len(table) == len({stage for stage, _ in cells})
    for stage, *texts in table:
        for name, text in zip(heads, texts, strict=True):
            check = cells.get((stage, "fast" if name == "reference" else name))
            ran = name in ("reference", "fast", "hls")
            assert text == (f"✓ {check['compared']:,}" if check else "–" if ran else "not run"), (stage, name)


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_a_click_on_a_stage_shows_its_numbers(browser: Browser, full_out: Path, options: dict[str, Any]) -> None:
    page, machine = opened(browser, full_out, **options), html.read_reports(full_out)["machine"]
    shown = "[...document.querySelectorAll('.panel')].filter((p) => !p.hidden).map((p) => p.id)"
    slowest = next(s for s in machine["stages"] if s["cycles"] == machine["interval_cycles"])
    assert page.evaluate(shown) == [f"stage-{slowest['name'].replace('.', '-')}"], "the bottleneck's numbers come first"
    picture = ".narrow" if options else ".wide"
    for stage in (machine["stages"][2], machine["stages"][-1]):
        name = stage["name"].replace(".", "-")
        page.click(f"{picture} a.stage[data-stage='{name}']")
        assert page.evaluate(shown) == [f"stage-{name}"]
        text = page.text(f"#stage-{name}")
        assert f"{stage['cycles']:,}" in text and " × ".join(map(str, stage["out_shape"])) in text
        for engine in stage["engines"]:
            assert f"{engine['p_oc']} × {engine['p_ic']} × {engine['p_k']} × {engine['p_px']}" in text
    clean(page)


def test_a_stage_is_reached_by_keyboard_and_by_address(browser: Browser, full_out: Path) -> None:
    page = browser.page()
    page.goto((full_out / html.PAGE).resolve().as_uri() + "#stage-conv10")
    assert not page.evaluate("document.getElementById('stage-conv10').hidden")
    page.evaluate("document.querySelector(\".wide a.stage[data-stage='pool4']\").focus()")
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    assert not page.evaluate("document.getElementById('stage-pool4').hidden") and page.evaluate("document.getElementById('stage-conv10').hidden")


def test_a_chart_tells_its_numbers_on_hovering(browser: Browser, full_out: Path) -> None:
    page, machine = opened(browser, full_out), html.read_reports(full_out)["machine"]
    bar = "#speed figure svg [aria-roledescription=bar]"
    page.evaluate(f"document.querySelector('{bar}').scrollIntoView({{block: 'center'}})")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # scrolling hides the tip
    x, y = page.evaluate(f"(() => {{ const r = document.querySelector('{bar}').getBoundingClientRect(); return [r.x + 3, r.y + 3]; }})()")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    tip = page.text("#tip")
    stage = next(s for s in machine["stages"] if s["name"] in tip)
    assert f"{stage['cycles']:,}" in tip or str(stage["cycles"]) in tip
    assert not page.evaluate("document.getElementById('tip').hidden")


# Relative luminance and contrast as WCAG 2 defines them, of every piece of text against what lies behind it.
CONTRASTS = """
(() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return {rgb: m.slice(0, 3), a: m.length > 3 ? m[3] : 1}; };
  const lum = (rgb) => { const f = rgb.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.a > 0) return c.rgb; } return [255, 255, 255]; };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!text || ["SCRIPT", "STYLE", "title"].includes(e.tagName) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const inBox = e.closest && e.closest("a.stage") && e.closest("a.stage").querySelector(".box");
    const back = inBox && !e.classList.contains("flag") ? parse(getComputedStyle(inBox).fill).rgb : ground(e);
    const [a, b] = [lum(parse(e instanceof SVGElement ? style.fill : style.color).rgb), lum(back)].sort((p, q) => q - p);
    found.push([(a + 0.05) / (b + 0.05), e.tagName + "." + (e.getAttribute("class") || "") + ": " + e.textContent.trim().slice(0, 40)]);
  }
  return found;
})()
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_is_readable_in_both_themes(browser: Browser, full_out: Path, dark: bool) -> None:
    page = opened(browser, full_out, dark=dark)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(v) for v in ground.removeprefix("rgb(").removesuffix(")").split(",")]
    assert (max(channels) < 60) == dark, "the page follows the theme"
    found = page.evaluate(CONTRASTS)
    assert len(found) > 200
    assert [text for ratio, text in found if ratio < CONTRAST] == []


def test_a_console_error_and_a_request_are_noticed(browser: Browser, tmp_path: Path) -> None:
    """The tests above can fail: a page with a script error and a picture elsewhere is caught."""
    bad = tmp_path / "bad.html"
    icon, script = "<link rel=icon href='data:,'>", "<script>console.error('no'); undefined_name();</script>"
    bad.write_text(f"<!doctype html>{icon}<img src='missing.png'>{script}")
    page = browser.page()
    page.goto(bad.as_uri())
    with pytest.raises(AssertionError):
        clean(page)
    assert any("undefined_name" in m for m in page.messages) and len(page.requests) == 2


def test_comparison_page(browser: Browser, digits_out: Path, full_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    target = tmp_path / "compare.html"
    body = json.loads(run_cli("compare", digits_out, full_out, "--html", target, "--json").out)
    for options in ({}, PHONE | {"dark": True}):
        page = browser.page(**options)
        page.goto(target.as_uri())
        clean(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= options.get("width", 1280)
        sides = page.evaluate("[...document.querySelectorAll('#card-accuracy .number')].map((e) => e.textContent)")
        assert sides == ["not measured", f"{body['b']['accuracy']['fixed']['top1']:.1f}%"]
