"""Opens every page of the built site in a headless Chromium, as a reader would, and fails on what a reader would see go wrong.

    site_in_browser.py SITE [--browser PROGRAM] [--screenshots FOLDER]

Each page is opened from a web server in light and dark at the width of a phone and of a desktop, and some pages also from the disk.
On each must hold: no error on the console, no failed request, no request to another host, no sideways scrolling of the page, all
formulas rendered, code boxes and page both light or both dark with text that can be read, a theme switch and a search that work.

The browser is driven by the DevTools protocol over two pipes, so Python's own library is all that this needs.
"""
import argparse
import base64
import contextlib
import functools
import http.server
import itertools
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time

WIDTHS = (390, 1440)
SCHEMES = ("light", "dark")
SEARCH = "search.html?q=causality"
FROM_DISK = ("index.html", "docs/index.html", "docs/api.html", "docs/mathematics.html", SEARCH)
PICTURED = ("docs/index.html", "docs/mathematics.html", "docs/architectures.html", "docs/api.html", "docs/commands.html", "README.html")
LIMIT = 60  # seconds for one answer of the browser

# What is looked at in a page: a list of complaints.
LOOK = """
(scheme => {
  const wrong = [];
  const width = document.documentElement.scrollWidth;
  if (width > window.innerWidth) wrong.push(`the page is ${width} px wide, the window ${window.innerWidth}`);

  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => {
    const [r, g, b] = channels(colour).map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor, values = channels(colour);
      if (values.length < 4 || values[3] > 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const contrast = element => {
    const [a, b] = [luminance(getComputedStyle(element).color), luminance(background(element))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const shown = element => element.checkVisibility() && element.textContent.trim();
  for (const element of [document.body, ...document.querySelectorAll('article, pre, code, table, .sidebar-drawer, .sig')]) {
    if (!shown(element)) continue;
    const what = element.tagName.toLowerCase() + ' "' + element.textContent.trim().slice(0, 30).replace(/\\s+/g, ' ') + '"';
    if ((luminance(background(element)) < 0.4) != (scheme == 'dark')) wrong.push(`${what} is ${background(element)} in ${scheme}`);
    if (contrast(element) < 4) wrong.push(`the text of ${what} has a contrast of ${contrast(element).toFixed(1)}`);
  }
  for (const token of document.querySelectorAll('pre span')) {
    if (shown(token) && contrast(token) < 3) wrong.push(`"${token.textContent}" in code has a contrast of ${contrast(token).toFixed(1)}`);
  }

  for (const formula of document.querySelectorAll('.math')) {
    if (!formula.querySelector('.katex')) wrong.push(`a formula is not rendered: ${formula.textContent}`);
  }
  for (const error of document.querySelectorAll('.katex-error')) wrong.push(`KaTeX: ${error.title}`);
  for (const picture of document.images) {
    if (!picture.naturalWidth && picture.loading != 'lazy') wrong.push(`a picture is not there: ${picture.src}`);
  }
  const boxes = document.querySelectorAll('div.highlight pre').length, buttons = document.querySelectorAll('button.copybtn').length;
  if (boxes != buttons) wrong.push(`${boxes} code boxes have ${buttons} copy buttons`);
  return wrong;
})
"""

# Presses the theme switch that is shown at this width until the page looks other than before.
SWITCH = """
(() => {
  const colour = () => getComputedStyle(document.body).backgroundColor;
  const button = [...document.querySelectorAll('button.theme-toggle')].find(button => button.checkVisibility());
  if (!button) return ['no theme switch is shown'];
  const before = colour();
  for (let press = 0; press < 3 && colour() == before; ++press) button.click();
  const wrong = colour() == before ? ['the theme switch changes nothing'] : [];
  localStorage.clear();
  return wrong;
})()
"""

# Waits for the results of a search, with their excerpts.
RESULTS = """
new Promise(done => {
  const text = () => document.querySelector('#search-results').innerText;
  const settled = () => setTimeout(() => done(/Causality/.test(text()) ? [] : [`the search finds nothing: ${text()}`]), 500);
  const look = tries => /finished/.test(text()) || tries == 0 ? settled() : setTimeout(() => look(tries - 1), 100);
  look(100);
})
"""


class Browser:
    """A headless Chromium. What happens in it is collected in `problems` of the page that is open."""

    def __init__(self, program, profile):
        to_browser, self._requests = os.pipe()
        self._answers, from_browser = os.pipe()
        command = [program, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--disable-background-networking", "--no-first-run", "--hide-scrollbars", f"--user-data-dir={profile}", "about:blank"]
        # The protocol is spoken on descriptors 3 and 4.
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(["bash", "-c", shell, "browser", *command], pass_fds=(to_browser, from_browser),
                                         start_new_session=True, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number, self._session = b"", 0, None
        self.problems, self.requests, self._loaded = [], [], False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Network.setCacheDisabled", cacheDisabled=True)

    def close(self):
        os.close(self._requests)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._answers)

    def call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._happened(answer)

    def _receive(self):
        while b"\0" not in self._buffer:
            if not select.select([self._answers], [], [], LIMIT)[0]:
                raise RuntimeError(f"the browser has not answered for {LIMIT} s")
            piece = os.read(self._answers, 1 << 20)
            if not piece:
                raise RuntimeError("the browser has ended")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _happened(self, event):
        method, what = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            details = what["exceptionDetails"]
            self.problems.append("exception: " + details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
            self.problems.append("console: " + " ".join(str(one.get("value", one.get("description"))) for one in what["args"]))
        elif method == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"log: {what['entry']['text']} {what['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif method == "Network.loadingFailed":
            self.problems.append(f"a request failed: {what['errorText']}")
        elif method == "Network.responseReceived" and what["response"]["status"] >= 400:
            self.problems.append(f"{what['response']['url']}: {what['response']['status']}")

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def open(self, url, width, scheme):
        """The page, with everything that it loads, in a window of that width on a system of that colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.problems, self.requests = [], []
        self._wait_for_load(lambda: self.call("Page.navigate", url=url))
        if url.endswith("/index.html") and not url.endswith("/docs/index.html"):
            self._wait_for_load(lambda: None)  # it leads to the start page
        # Scripts that wait for the page, and what they fetch.
        self.evaluate("document.fonts.ready.then(() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50))))")

    def _wait_for_load(self, begin):
        self._loaded = False
        begin()
        deadline = time.monotonic() + LIMIT
        while not self._loaded and time.monotonic() < deadline:
            self._happened(self._receive())

    def picture(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))


def look_at(browser, base, page, width, scheme):
    """The complaints about one page."""
    browser.open(f"{base}/{page}", width, scheme)
    elsewhere = sorted({url for url in browser.requests if not url.startswith((base, "data:"))})
    found = [f"it loads {url}" for url in elsewhere]
    found += browser.evaluate(RESULTS) if page == SEARCH else []
    found += browser.evaluate(f"({LOOK})('{scheme}')") + browser.evaluate(SWITCH)
    return browser.problems + found


# Words of a complaint -> a page that must get it. They come first: a check that sees nothing would pass everything.
FAULTS = {
    "Cannot use import statement": "<script src='module.js'></script>",
    "/javascript/missing.css: 404": "<link rel='stylesheet' href='/javascript/missing.css'>",
    "it loads http://bsbr.invalid": "<script src='http://bsbr.invalid/a.js'></script>",
    "px wide": "<div style='width: 2000px'>wide</div>",
    "in dark": "<pre style='background: white; color: black'>code</pre>",
    "has a contrast of": "<pre><span style='color: #1a1a1a'>code</span></pre>",
    "not rendered": "<span class='math'>\\(x\\)</span>",
    "no theme switch": "",
}


def unseen_faults(browser, folder, base):
    """The known faults of which look_at says nothing."""
    (folder / "module.js").write_text("import a from 'b'\n")
    unseen = []
    for number, (complaint, body) in enumerate(FAULTS.items()):
        style = "<style>:root { color-scheme: dark } body { background: #111; color: #eee }</style>"
        (folder / f"{number}.html").write_text(f"<!DOCTYPE html><meta charset='utf-8'>{style}<p>text</p>{body}")
        found = look_at(browser, base, f"{number}.html", WIDTHS[0], "dark")
        if not any(complaint in one for one in found):
            unseen.append(f"nothing says '{complaint}' of a page that deserves it: {found}")
    return unseen


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def server_of(folder):
    """The address of a web server on this machine that has the folder."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def views(site, address):
    """(base, page, width, scheme) of everything that is looked at."""
    pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if "_static" not in path.parts)
    for base, opened in ((address, [*pages, SEARCH]), (site.as_uri(), FROM_DISK)):
        yield from itertools.product([base], opened, WIDTHS, SCHEMES)


def look_at_all(browser, site, address, screenshots):
    """Prints all complaints; the number of views that have some, and the number of views."""
    looked = failed = 0
    for base, page, width, scheme in views(site, address):
        found = look_at(browser, base, page, width, scheme)
        looked, failed = looked + 1, failed + bool(found)
        for complaint in found:
            print(f"{base.partition(':')[0]} {page}, {width} px, {scheme}: {complaint}", flush=True)
        if screenshots and base == address and page in PICTURED:
            browser.open(f"{base}/{page}", width, scheme)
            browser.picture(screenshots / f"{pathlib.Path(page).stem}-{width}-{scheme}.png")
    return failed, looked


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=pathlib.Path)
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--screenshots", type=pathlib.Path, help="folder for pictures of some pages")
    options = parser.parse_args()
    site = options.site.resolve()
    if options.screenshots:
        options.screenshots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bsbr-browser-", ignore_cleanup_errors=True) as scratch:
        faults = pathlib.Path(scratch, "faults")
        faults.mkdir()
        with (contextlib.closing(Browser(options.browser, os.path.join(scratch, "profile"))) as browser,
              server_of(faults) as bad, server_of(site) as address):
            unseen = unseen_faults(browser, faults, bad)
            if unseen:
                sys.exit("\n".join(unseen))
            failed, looked = look_at_all(browser, site, address, options.screenshots)
    print(f"{looked} views: {failed} with faults")
    return 1 if failed or not looked else 0


if __name__ == "__main__":
    sys.exit(main())
