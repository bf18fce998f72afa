"""The page of an explanation in a real browser: slider, tensors, graph, by mouse and by keyboard."""

from __future__ import annotations

import copy
import time
from importlib.resources import files

import pytest

from explainer.recorded import line, record, step
from loopwright.events.explained import GroupNote
from loopwright.report.explain_html import render
from report.fitting import does_not_fit

pytestmark = pytest.mark.browser

PROGRAM = """\
import torch
from torch import nn
torch.manual_seed(0)
X = torch.randn(96, 6)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, X.sum(1, keepdim=True)), batch_size=16)
blocks = [nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh()) for _ in range(5)]
model = nn.Sequential(*blocks, nn.Linear(6, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for epoch in range(2):
    for data, target in loader:
        optimizer.zero_grad()
        output = model(data)
        loss = nn.functional.mse_loss(output, target)
        loss.backward()
        optimizer.step()
        total = loss.item()
    with torch.no_grad():
        for data, target in loader:
            error = nn.functional.mse_loss(model(data), target).item()
"""


@pytest.fixture(scope="module")
def seen(run_program, tmp_path_factory):
    """The record of a program with a training and a validation loop."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "train.py").write_text(PROGRAM)

    return record(run_program, folder / "train.py", folder / "record.json", timed=4)


def notes(page, number):
    """What stands under a line, as it is shown."""
    return page.evaluate(
        """number => {
            const out = [];
            let node = document.getElementById(`L0-${number}`).nextElementSibling;
            for (; node && !node.classList.contains('row'); node = node.nextElementSibling)
                if (!node.hidden) out.push(node.innerText);
            return out.join(' ');
        }""",
        number,
    )


def at(text):
    """The line of the program that holds a text."""
    return 1 + next(number for number, one in enumerate(PROGRAM.splitlines()) if text in one)


def test_size_and_script(seen):
    """The page is small, and so is its script; nothing in it leads outside."""
    html = render(seen)
    assert len(html.encode()) < 300_000
    script = files("loopwright.report").joinpath("assets/explain.js").read_bytes()
    assert len(script) <= 20_000
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html


@pytest.mark.parametrize("width", [375, 820, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_its_width(visit, seen, width, scheme):
    """Nothing scrolls sideways on a phone, a tablet or a desk; every statement that ran has its line."""
    page = visit(render(seen), viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert does_not_fit(page) == []
    ran = {one.line for each in seen.steps for one in each.lines} | {one.line for one in seen.setup}
    assert page.locator(".row.ran").count() == len(ran)


@pytest.mark.parametrize("depth", [1, 9])
def test_the_table_of_the_graph_fits_a_phone(visit, seen, depth):
    """Also with long names and modules deep inside others: only code and drawings scroll by themselves."""
    made = copy.deepcopy(seen)
    graph = made.steps[1].graphs[0]
    for number in range(1, depth + 1):
        kind = "MultiHeadSelfAttentionWithRelativePositions"
        group = GroupNote(f"{'inner.' * number}projection_of_queries", kind, number - 1, 40, 123456)
        graph.groups.insert(number, group)
    del graph.groups[depth + 1 :]
    graph.node_group = [depth] * len(graph.node_group)
    page = visit(render(made), viewport={"width": 375, "height": 800})
    assert does_not_fit(page) == []
    beside, rows, indents = page.evaluate(
        """() => {
            const box = [...document.querySelectorAll('.short')].find(one => one.offsetParent);
            const heads = [...box.querySelectorAll('tbody th')];
            return [box.scrollWidth - box.clientWidth, heads.length,
                    heads.map(one => parseFloat(getComputedStyle(one).paddingLeft))];
        }"""
    )
    assert (beside, rows) == (0, depth + 1)
    assert indents == sorted(indents)
    assert indents[1] > indents[0]


def spent(chromium, until, path):
    """CPU seconds of the main thread of a tab until a page is there with everything drawn."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    protocol = context.new_cdp_session(page)
    protocol.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(path.as_uri())
    until(page, "document.readyState === 'complete'")
    metrics = protocol.send("Performance.getMetrics")["metrics"]
    context.close()
    return next(one["value"] for one in metrics if one["name"] == "TaskDuration")


def test_it_opens_at_once(chromium, until, seen, tmp_path):
    """Half a second of work beyond an empty page, at most: on a machine with nothing else to do, of time."""
    (tmp_path / "null.html").write_text("<!doctype html><title>nothing</title>")
    (tmp_path / "page.html").write_text(render(seen), encoding="utf-8")
    null = spent(chromium, until, tmp_path / "null.html")
    assert 0 < spent(chromium, until, tmp_path / "page.html") - null < 0.5  # 0.08 is usual


def test_the_slider_shows_other_steps(visit, seen):
    """By mouse, by arrow keys and by brackets: numbers of that step stand under each line."""
    page = visit(render(seen))
    losses = [f"{step(seen, number).losses[-1]:.4g}" for number in (1, 2, 3)]
    assert losses[1] in notes(page, at("mse_loss(output"))
    page.locator("#slider").fill("2")
    assert losses[2] in notes(page, at("mse_loss(output"))
    assert page.inner_text("#which") == "3"
    page.locator("#slider").focus()
    page.keyboard.press("Home")
    assert losses[0] in notes(page, at("mse_loss(output"))
    assert "begins to remember" in notes(page, at("optimizer.step()"))
    page.locator("h1").click()
    page.keyboard.press("]")
    assert losses[1] in notes(page, at("mse_loss(output"))
    page.keyboard.press("[")
    assert losses[0] in notes(page, at("mse_loss(output"))
    assert page.locator("#slider").get_attribute("aria-valuetext") == "step 1"


def test_another_loop(visit, seen):
    """The slider moves the loop that is chosen, and leaves the other as it is."""
    page = visit(render(seen))
    choice = page.locator("#loop")
    names = choice.locator("option").all_inner_texts()
    assert [name.partition(",")[0] for name in names] == [
        "outer loop",
        "training loop",
        "evaluation loop",
    ]
    training = notes(page, at("loss.backward"))
    before = notes(page, at("error ="))
    choice.select_option(index=2)
    page.locator("#slider").fill("2")
    assert notes(page, at("error =")) != before
    assert notes(page, at("loss.backward")) == training


def test_tensors_on_hover_and_focus(visit, seen):
    """Pointing at a name shows the tensor as it was after that line; so does the tab key; Escape ends it."""
    page = visit(render(seen))
    inspector = page.locator("#inspector")
    resting = inspector.inner_text()
    name = page.locator(f"#L0-{at('output = model')} .t[data-t=output]")
    name.hover()
    (output,) = line(step(seen, 2), seen, "output = model").tensors
    shown = inspector.inner_text()
    assert "16×1" in shown
    assert f"{output.norm:.4g}" in shown
    assert output.node in shown
    page.keyboard.press("]")
    assert inspector.inner_text() != shown
    page.locator(f"#L0-{at('output = model')} .t[data-t=data]").focus()
    assert "16×6" in inspector.inner_text()
    page.keyboard.press("Escape")
    assert inspector.inner_text() == resting


def test_the_graph_folds_and_zooms(visit, seen):
    """Repeated blocks are folded; a button, a click, keys and the wheel change what is drawn."""
    page = visit(render(seen))
    box = page.locator(".graphbox:not([hidden])")
    rows = box.locator(".groups tbody tr")
    before = rows.count()
    fold = box.locator("button[aria-expanded=false]").first
    fold.focus()
    page.keyboard.press("Enter")
    assert rows.count() == before + 4
    canvas = box.locator("canvas")
    picture = canvas.evaluate("node => node.toDataURL()")
    canvas.focus()
    page.keyboard.press("+")
    zoomed = canvas.evaluate("node => node.toDataURL()")
    assert zoomed != picture
    page.keyboard.press("ArrowRight")
    assert canvas.evaluate("node => node.toDataURL()") != zoomed
    page.keyboard.press("Escape")
    assert canvas.evaluate("node => node.toDataURL()") == picture
    canvas.hover(position={"x": 200, "y": 60})
    assert "line" in box.locator(".cell-readout").inner_text() or "Linear" in box.inner_text()


def test_links_and_theme(visit, seen):
    """A phase leads to its line; the button changes the colours, and says so."""
    page = visit(render(seen))
    page.locator(".phases:not([hidden]) .phase").nth(5).locator("a").click()
    assert page.evaluate("location.hash") == f"#L0-{at('loss.backward')}"
    ink = "getComputedStyle(document.body).color"
    before = page.evaluate(ink)
    page.locator("#theme").click()
    assert page.evaluate(ink) != before
    assert "dark" in page.locator("#theme").get_attribute("aria-label")


def test_without_the_script(visit, seen, chromium, tmp_path):
    """Where scripts are off, the page reads as of the second step."""
    path = tmp_path / "plain.html"
    path.write_text(render(seen))
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(path.as_uri())
    text = page.inner_text("#source")
    assert f"{step(seen, 2).losses[-1]:.4g}" in text
    assert f"{step(seen, 1).losses[-1]:.4g}" not in text
    page.context.close()


def test_paper(visit, seen):
    """On paper there is no slider, and the source is not cut off."""
    page = visit(render(seen))
    page.emulate_media(media="print")
    assert not page.locator(".stepper").is_visible()
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.src')).whiteSpace") == "pre-wrap"
    )


def test_twenty_thousand_nodes(visit, seen):
    """A graph of 20,000 nodes in 200 blocks is drawn, zoomed and folded without freezing."""
    big = copy.deepcopy(seen)
    chosen = step(big, 2)
    graph = chosen.graphs[0]
    blocks, each = 200, 100
    graph.groups = [GroupNote("", "", -1, blocks * each, 4000 * blocks)]
    for number in range(blocks):
        graph.groups.append(GroupNote(f"model.{number}", "Block", 0, each, 4000))
        graph.groups.append(
            GroupNote(f"model.{number}.linear", "Linear", 2 * number + 1, each // 2, 2000)
        )
    graph.nodes = blocks * each
    graph.node_name = [number % len(graph.names) for number in range(graph.nodes)]
    graph.node_group = [
        2 * (number // each) + 1 + (number % each < 50) for number in range(graph.nodes)
    ]
    graph.node_line = [0] * graph.nodes
    graph.node_bytes = [number % 997 for number in range(graph.nodes)]
    graph.edges = [[number + 3, number] for number in range(graph.nodes - 3)]
    html = render(big)
    assert len(html.encode()) < 2_000_000
    page = visit(html)
    longest = page.evaluate(
        """async () => {
        const canvas = document.querySelector('.graphbox:not([hidden]) canvas');
        let longest = 0;
        for (const key of ['+', '+', '+', 'ArrowRight', '-', 'Escape']) {
            const begin = performance.now();
            canvas.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
            longest = Math.max(longest, performance.now() - begin);
        } return longest; }"""
    )
    assert longest < 2000  # 20 ms when the machine has nothing else to do
    began = time.monotonic()
    page.locator(".graphbox:not([hidden]) button.fold").first.click()
    assert page.locator(".graphbox:not([hidden]) .groups tbody tr").count() == 1
    assert time.monotonic() - began < 30
