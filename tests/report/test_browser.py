"""The report in a real browser: no error, no request, and everything that moves moves."""

from __future__ import annotations

from itertools import product

import pytest

from loopwright.report import compare
from loopwright.report.html import render
from report.fitting import does_not_fit

pytestmark = pytest.mark.browser

LOSS = "[data-chart='0']"
ALL = ["digits", "regression", "failed", "empty", "huge"]


def box_of(page, selector):
    """Where an element stands, after scrolling to it."""
    page.locator(selector).first.scroll_into_view_if_needed()
    return page.locator(selector).first.bounding_box()


@pytest.mark.parametrize(
    ("name", "width"),
    [
        pytest.param(*one, marks=pytest.mark.long if one[1] == 820 or one == ("huge", 1280) else ())
        for one in product(ALL, [375, 820, 1280])
    ],
)
def test_pages_fit_their_width(visit, samples, name, width):
    """No page scrolls sideways, on a phone, a tablet or a desk; none logs or loads anything."""
    page = visit(render(getattr(samples, name)()), viewport={"width": width, "height": 800})
    assert does_not_fit(page) == []


def test_curves_are_drawn(visit, samples):
    """Every chart of a classifier's run holds a line with a path and a legend with numbers."""
    page = visit(render(samples.digits()))
    assert page.locator(".chart").count() == 4
    for chart in page.locator(".chart").all():
        assert len(chart.locator("path.line").first.get_attribute("d")) > 50
        assert chart.locator(".legend .value").first.inner_text()
    assert page.locator(f"{LOSS} .legend .name").all_inner_texts() == ["train", "valid"]


def test_hover_shows_the_values_of_the_step(visit, samples):
    """Pointing at a chart shows the step and the values there, in all charts at once."""
    record = samples.digits()
    page = visit(render(record))
    resting = page.inner_text(f"{LOSS} .legend .value")
    plot = box_of(page, f"{LOSS} .plot")
    page.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + plot["height"] / 2)
    step = int(page.text_content(f"{LOSS} .pill-text").removeprefix("step "))
    shown = page.inner_text(f"{LOSS} .legend .value")
    assert shown != resting
    assert shown.split()[0] == f"{record.series['loss'].y[step - 1]:.4g}"
    assert page.locator(".pill-text").all_text_contents() == [f"step {step}"] * 4
    assert page.locator(f"{LOSS} .cross").count() == 1
    page.mouse.move(2, 2)
    assert page.locator(".cross").count() == 0
    assert page.inner_text(f"{LOSS} .legend .value") == resting


def test_smoothing_changes_the_path(visit, samples, until):
    """The slider changes the bold curve and leaves the raw one; at zero there is one curve."""
    page = visit(render(samples.digits()))
    before = page.get_attribute(f"{LOSS} path.line", "d")
    raw = page.get_attribute(f"{LOSS} path.raw", "d")
    page.fill("#smooth", "0.95")
    until(
        page,
        f"(old) => document.querySelector(\"{LOSS} path.line\").getAttribute('d') !== old",
        before,
    )
    assert page.get_attribute(f"{LOSS} path.raw", "d") == raw
    assert page.inner_text("#smooth-value") == "0.95"
    page.fill("#smooth", "0")
    until(page, f'!document.querySelector("{LOSS} path.raw")')
    assert page.get_attribute(f"{LOSS} path.line", "d") == raw


def test_drag_zooms_every_chart_and_reset_goes_back(visit, samples, until):
    """Dragging across a chart narrows the axis of all charts; reset and double-click restore it."""
    page = visit(render(samples.digits()))
    before = page.locator(".plot svg").evaluate_all("all => all.map(e => e.textContent)")
    plot = box_of(page, f"{LOSS} .plot")
    page.mouse.move(plot["x"] + 200, plot["y"] + 80)
    page.mouse.down()
    page.mouse.move(plot["x"] + 330, plot["y"] + 90, steps=4)
    assert page.locator(".brush").count() == 1
    page.mouse.up()
    until(page, "!document.querySelector('#reset').disabled")
    page.mouse.move(2, 2)
    changed = "(old) => [...document.querySelectorAll('.plot svg')].every((e, i) => e.textContent !== old[i])"
    same = changed.replace("!==", "===")
    until(page, changed, before)
    page.click("#reset")
    until(page, same, before)
    assert page.is_disabled("#reset")


def test_epoch_view_and_log_scale(visit, samples, until):
    """The epoch view shows one dot an epoch and curve; the log button changes the vertical axis."""
    page = visit(render(samples.digits()))
    page.click("[data-view=e]")
    until(page, f'document.querySelectorAll("{LOSS} .spot").length === 24')
    linear = page.get_attribute(f"{LOSS} path.line", "d")
    page.click(f"{LOSS} [data-log]")
    assert page.get_attribute(f"{LOSS} [data-log]", "aria-pressed") == "true"
    assert page.get_attribute(f"{LOSS} path.line", "d") != linear


def test_keyboard_moves_and_zooms(visit, samples, until):
    """A focused chart answers to arrows, plus and Escape."""
    page = visit(render(samples.digits()))
    page.focus(f"{LOSS} .plot svg")
    page.keyboard.press("ArrowRight")
    first = page.text_content(f"{LOSS} .pill-text")
    page.keyboard.press("ArrowRight")
    assert page.text_content(f"{LOSS} .pill-text") != first
    page.keyboard.press("+")
    until(page, "!document.querySelector('#reset').disabled")
    page.keyboard.press("Escape")
    until(page, "document.querySelector('#reset').disabled")


def test_a_curve_can_be_hidden(visit, samples):
    """A click on a name in the legend takes its curve away, another brings it back."""
    page = visit(render(samples.digits()))
    page.click(f"{LOSS} .legend button:nth-child(2)")
    assert page.locator(f"{LOSS} path.line").count() == 1
    page.click(f"{LOSS} .legend button:nth-child(2)")
    assert page.locator(f"{LOSS} path.line").count() == 2


def test_dark_and_light(visit, samples):
    """The page follows the system's colours until the button says otherwise."""
    html = render(samples.digits())
    background = "getComputedStyle(document.body).backgroundColor"
    light = visit(html, color_scheme="light")
    dark = visit(html, color_scheme="dark")
    paper, night = light.evaluate(background), dark.evaluate(background)
    assert paper != night
    light.click("#theme")
    assert light.evaluate(background) == night
    assert light.get_attribute("#theme", "aria-label") == "Colours: dark"
    light.click("#theme")
    assert light.evaluate(background) == paper


def test_not_a_number_is_marked(visit, samples):
    """A loss that became infinite and NaN is marked at its step and read as such."""
    page = visit(render(samples.failed()))
    assert "train ∞ at step 212" in page.locator(f"{LOSS} .bad-name").all_text_contents()
    assert "NaN" in page.locator(f"{LOSS} .legend .value").all_inner_texts()
    plot = box_of(page, f"{LOSS} .plot")
    page.mouse.move(plot["x"] + plot["width"] - 12, plot["y"] + 60)
    assert page.text_content(f"{LOSS} .pill-text") == "step 220"
    assert page.inner_text(f"{LOSS} .legend .value") == "∞"


def test_confusion_matrix_reads_out(visit, samples):
    """Pointing at a cell says what was taken for what, how often; 120 classes work the same."""
    page = visit(render(samples.digits()))
    assert page.locator(".matrix tbody td").count() == 100
    page.hover("[data-at='8,1']")
    assert page.inner_text(".cell-readout") == "8 taken for 1: 2 of 35 (5.7 %)"
    page.click(".sortable thead th:nth-child(4) button")
    recalls = page.locator(".sortable tbody td:nth-child(4)").all_inner_texts()
    assert recalls == sorted(recalls, key=lambda text: float(text.split()[0]))
    many = visit(render(samples.huge(points=50, metrics=2)))
    canvas = box_of(many, ".matrix canvas")
    at = 60.5 / 120
    many.mouse.move(canvas["x"] + canvas["width"] * at, canvas["y"] + canvas["height"] * at)
    assert many.inner_text(".cell-readout").startswith("class 60 recognised: 40 of 4")


def test_model_folds(visit, samples):
    """Folding a module hides what is inside it; the worst samples show their pictures."""
    page = visit(render(samples.digits()))
    rows = page.locator(".tree tbody tr")
    assert rows.locator("visible=true").count() == 9
    page.locator(".fold").nth(1).click()
    assert rows.locator("visible=true").count() == 3
    page.locator(".fold").nth(0).click()
    assert rows.locator("visible=true").count() == 1
    assert page.evaluate(
        "[...document.querySelectorAll('.worst img')].every(i => i.naturalWidth === 8)"
    )


def test_hostile_names_run_nothing(visit, samples, until):
    """Names that hold markup are text: no script of theirs runs, no picture of theirs loads."""
    page = visit(render(samples.huge(points=300, metrics=30)))
    assert page.evaluate("window.hacked === undefined")
    page.locator("details.more summary").click()
    until(page, "document.querySelectorAll('details .plot svg[tabindex]').length > 10")
    assert page.evaluate("window.hacked === undefined")


def test_comparison_overlays_runs(visit, samples):
    """The page of several runs draws one line a run and fits a phone."""
    records = [samples.digits(), samples.digits(), samples.failed()]
    page = visit(compare.render(records), viewport={"width": 375, "height": 800})
    assert does_not_fit(page) == []
    lines = page.locator(".chart", has=page.get_by_text("Loss of each step", exact=False))
    assert lines.locator(".legend button").count() == 3


def test_readable_without_script(visit, samples, chromium, tmp_path):
    """With JavaScript off the page still shows its curves, numbers and tables."""
    path = tmp_path / "still.html"
    path.write_text(render(samples.digits()), encoding="utf-8")
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator(".plot svg path").count() > 8
    assert page.locator(".tree tbody tr").count() == 9
    context.close()
