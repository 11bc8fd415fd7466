import shutil

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium without a window; it is not the browser that Playwright would download."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if path is None:
        pytest.skip("there is no Chromium; Debian's package is chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, tmp_path):
    """A function that writes a report, and shows it in a browser without network."""
    contexts = []

    def show(report, width=1280, height=900):
        context = chromium.new_context(viewport={"width": width, "height": height}, offline=True)
        contexts.append(context)
        path = report.write(tmp_path / "report.html")
        context.route(lambda address: not address.startswith(("file:", "data:")), lambda route: route.abort())
        tab = context.new_page()
        tab.said = []
        tab.on("console", lambda message: tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.on("dialog", lambda dialog: (tab.said.append(dialog.message), dialog.dismiss()))
        tab.on("requestfailed", lambda request: tab.said.append(request.url[:80]))
        tab.goto(path.as_uri())
        return tab

    yield show
    for context in contexts:
        context.close()
