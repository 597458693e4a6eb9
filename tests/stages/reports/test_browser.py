"""The report in a real browser: filters, search, hostile texts, widths, and the live view that reloads."""

import asyncio
import http.client
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pipeline.store import files
from stages.reports.live import Server
from stages.reports.page import render, write
from stages.reports.page.build import PER_CHUNK
from stages.reports.page.embed import packed
from tests.stages.reports.browser import CHROMIUM, Page, browser
from tests.stages.reports.finished import Finished
from tests.stages.reports.parsed import Parsed
from tests.stages.reports.test_page import HOSTILE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]
ROWS = "[...document.querySelectorAll('.row')]"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("browser") / "run", hostile=HOSTILE)


@pytest.fixture(scope="module")
def report(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("html") / "report.html"
    write([finished.run], str(path))
    return path.as_uri()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    folder = tmp_path_factory.mktemp("profile")
    async with browser(folder) as opened:
        yield opened
    shutil.rmtree(folder, ignore_errors=True)


async def choose(page: Page, **filters: str) -> int:
    """Set the filters, and return how many rows the page then says it has found."""
    for name, value in filters.items():
        await page.run(f"document.forms[0].elements.{name}.value = {value!r}")
    await page.run("document.getElementById('found').textContent = ''")
    await page.run("document.forms[0].dispatchEvent(new Event('input'))")
    await page.until("/^[\\d,]+ of/.test(document.getElementById('found').textContent)")
    return int(await page.run("document.getElementById('found').textContent.split(' ')[0].replace(',', '')"))


async def test_filters_and_search(finished: Finished, report: str, page: Page) -> None:
    await page.open(report)
    manifest = finished.run.manifest(finished.run.stage(2, "verify"))
    against = files.read_json(finished.run.evaluation(2))["against_previous"]
    assert manifest
    dropped = {"round": "2", "stage": "verify", "outcome": "dropped"}
    assert await choose(page, **dropped, reason="wrong_answer") == manifest.rows_dropped["wrong_answer"]
    assert await choose(page, **dropped, reason="") == sum(manifest.rows_dropped.values())
    flips = against["wrong_to_right"] + against["right_to_wrong"]
    assert await choose(page, round="2", stage="evaluate", outcome="", flip="any") == flips
    assert await choose(page, round="", stage="", flip="", q="no such text") == 0
    assert await choose(page, q="ALERT(1)") == 1, "in any case, in texts that are not shown"
    found = await page.run(f"{ROWS}[0].querySelector('.line + .line').textContent")
    assert found == HOSTILE[0]
    await page.run("document.querySelector('button[type=reset]').click()")
    await page.until(f"{ROWS}.length === 40")
    await page.run("document.getElementById('more').click()")
    await page.until(f"{ROWS}.length === 80")
    await page.run("document.querySelector('a[href*=\"flip=any\"]').click()")
    await page.until(
        "(e => e.flip.value === 'any' && e.stage.value === 'evaluate')(document.forms[0].elements)"
    )
    assert not page.problems and set(page.requests) == {report}


async def test_hostile_texts_run_nothing(report: str, page: Page) -> None:
    await page.open(report)
    await page.run("window.alert = () => { window.harmed = true }")
    await choose(page, round="2", outcome="dropped")
    while not await page.run("document.getElementById('more').hidden"):
        await page.run("document.getElementById('more').click()")
        await asyncio.sleep(0.05)
    await page.run(f"{ROWS}.forEach((row) => {{ row.open = true }})")
    await page.until(f"{ROWS}.every((row) => row.querySelector('.way'))")
    texts = await page.run(
        "[...document.querySelectorAll('.way .block, .way .inline span')].map((b) => b.textContent)"
    )
    assert HOSTILE[0] in texts and HOSTILE[1] in texts
    assert await page.run("document.querySelectorAll('main script, main img, .way b').length") == 0
    assert not await page.run("window.harmed") and not page.problems


@pytest.mark.parametrize(("width", "dark"), [(390, True), (820, False), (1280, False)])
async def test_it_fits_the_width(report: str, page: Page, width: int, dark: bool) -> None:
    await page.open(report, width, dark)
    await page.run(f"{ROWS}.slice(0, 3).forEach((row) => {{ row.open = true }})")
    await page.run("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    assert await page.run("document.documentElement.scrollWidth") == width
    background = await page.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(20, 22, 26)") == dark
    overlap = """[...document.querySelectorAll('.chart')].filter((svg) => {
        const outer = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].some((t) => t.getBoundingClientRect().left < outer.left - 2);
    }).length"""
    assert await page.run(overlap) == 0, "no label is cut off"
    assert not page.problems


async def test_fifty_thousand_rows_open_within_three_seconds(
    finished: Finished, tmp_path: Path, page: Page
) -> None:
    """The page of a small run with its first chunk 200 times over: as many rows, as much to parse."""
    html = render([finished.run])
    parsed = Parsed(html)
    index = parsed.unpacked("index")
    assert len(index["columns"]["run"]) >= PER_CHUNK
    for name, column in index["columns"].items():
        index["columns"][name] = column[:PER_CHUNK] * 200
    many = "".join(
        f'<script type="application/octet-stream" id="chunk-{i}">{parsed.data["chunk-0"]}</script>'
        for i in range(200)
    )
    head = html[: html.index('<script type="application/octet-stream" id="index">')]
    tail = html[html.rindex("<script>") :]
    data = f'<script type="application/octet-stream" id="index">{packed(index)}</script>{many}'
    (tmp_path / "report.html").write_text(head + data + tail)
    assert (tmp_path / "report.html").stat().st_size > 2_000_000
    await page.open((tmp_path / "report.html").as_uri())
    assert await page.cpu_seconds() < 3, "CPU time: the machine may be busy"
    shown = await page.run("document.getElementById('found').textContent")
    assert shown.startswith("50,000 of 50,000 rows"), shown
    assert await choose(page, q="alert(1)") >= 200, "search goes through all of them"


async def test_live_view_reloads_when_the_run_goes_on(finished: Finished, page: Page) -> None:
    with Server([finished.run], 0, 100) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            await page.open(f"http://127.0.0.1:{server.port}/")
            before = await page.run("document.querySelector('meta[name=version]').content")
            files.write_json(finished.run.path("rounds/003/generate/fingerprint.json"), {})
            changed = f"document.querySelector('meta[name=version]')?.content !== '{before}'"
            await page.until(f"document.documentElement?.dataset.ready === 'yes' && {changed}")
            assert not page.problems
            for host, path, status in (
                ("evil.example", "/", 403),
                (f"evil.example:{server.port}", "/", 403),
                (f"localhost:{server.port}", "/version", 200),
                (f"127.0.0.1:{server.port}", "/../run.yaml", 404),
            ):
                answer = ask(server.port, "GET", path, host)
                assert answer.status == status and answer.headers["X-Content-Type-Options"] == "nosniff"
            assert ask(server.port, "POST", "/", f"127.0.0.1:{server.port}").status == 501
        finally:
            server.shutdown()
            thread.join()
            shutil.rmtree(finished.run.path("rounds/003"))


def ask(port: int, method: str, path: str, host: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    return connection.getresponse()
