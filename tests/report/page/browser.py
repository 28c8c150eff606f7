"""Looking at a page with a real Chromium: its console, its requests, and how it is laid out."""

import base64
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Whatever is wider than the window, or than its own box, outside what scrolls by itself.
MEASURE = """
addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")].filter((one) => {
    if (one.closest(".scroll, pre, dialog, script, style")) return false;
    const box = one.getBoundingClientRect();
    return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1
      || (getComputedStyle(one).overflowX !== "visible" && one.scrollWidth > one.clientWidth + 1));
  });
  const images = [...document.images].filter((one) => !one.closest("dialog"));
  const table = document.querySelector("table");
  const heading = table && table.tHead.rows[0].cells[0];
  const column = () => [...table.tBodies[0].rows].map((row) => row.cells[0].dataset.order);
  const before = table && column();
  if (heading) { heading.click(); heading.click(); }
  const image = document.querySelector(".enlarge");
  if (image) image.click();
  const found = {
    innerWidth, scrollWidth: document.documentElement.scrollWidth,
    wide: wide.map((one) => one.tagName + "." + one.className + " " + one.textContent.slice(0, 60)),
    images: images.length, broken: images.filter((one) => !one.naturalWidth).length,
    sorted: table ? [before, column()] : null, enlarged: document.querySelector("dialog").open,
  };
  parent.postMessage(JSON.stringify(found), "*");
});
"""

# A window cannot be as narrow as a telephone: the page is measured in a frame that is.
FRAME = """<!doctype html><iframe src="measured.html" width="{width}" height="1200"></iframe>
<script>addEventListener("message", (told) => {{
  const found = document.createElement("pre");
  found.id = "found";
  found.textContent = btoa(unescape(encodeURIComponent(told.data)));
  document.body.replaceChildren(found);
}});</script>"""

OWN = re.compile(r"https?://([a-z0-9.-]+\.)?(google|gvt1|googleapis)\.com[:/]")  # Chromium's own


def executable():
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Seen:
    """What a browser saw of a page."""

    console: list
    requests: list
    layout: dict


def run(profile, *arguments):
    command = [
        executable(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--no-first-run",
        "--enable-logging=stderr", f"--user-data-dir={profile}", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def look(page, width):
    """Open a page in a window of this width; then a copy that measures itself."""
    with tempfile.TemporaryDirectory() as folder:
        profile, log = Path(folder, "profile"), Path(folder, "net.json")
        size = f"--window-size={width},1200"
        done = run(profile, size, f"--log-net-log={log}", "--dump-dom", page.as_uri())
        console = re.findall(r"CONSOLE[^\n]*", done.stderr)
        text = log.read_text().rstrip().rstrip(",")
        events = json.loads(text if text.endswith("}") else text + "]}")["events"]
        urls = [one.get("params", {}).get("url") for one in events]
        left = {url for url in urls if url and not url.startswith(("file:", "data:", "chrome"))}
        requests = sorted(url for url in left if not OWN.match(url))
        copy, frame = Path(folder, "measured.html"), Path(folder, "frame.html")
        bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
        copy.write_text(bare.replace("</body>", f"<script>{MEASURE}</script></body>"))
        frame.write_text(FRAME.format(width=width))
        dom = run(profile, "--window-size=1400,1200", "--dump-dom", frame.as_uri()).stdout
    layout = json.loads(base64.b64decode(re.search(r'<pre id="found">([^<]*)', dom)[1]))
    return Seen(console, requests, layout)
