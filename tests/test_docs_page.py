"""The API's page works without a way out: all that it needs is ours, and the browser is told so."""

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from aiohttp import ClientSession

from adapters.http.docs_page import VIEWER, Viewer, static, viewer_version
from tests.documented_till import documented_till

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "adapters/http/static"
BYTES_MAX = 2_000_000
POLICY = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "connect-src 'self'",
]
# As npm's swagger-ui-dist 5.35.0 has them.
UPSTREAM = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}


@pytest.fixture
def served(runner, tmp_path):
    opened = documented_till(tmp_path)
    yield runner.run(opened.__aenter__())
    runner.run(opened.__aexit__(None, None, None))


async def get(url, **headers):
    async with ClientSession() as client, client.get(url, headers=headers) as answer:
        return answer.status, answer.headers, await answer.read()


def links(page):
    return re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page)


async def test_the_page_asks_for_nothing_but_our_own_files(served):
    status, headers, body = await get(f"{served.url}/docs")
    page = body.decode()
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "//" not in page
    assert sorted(Path(link).name for link in links(page)) == sorted([*VIEWER, "openapi.json"])
    for link in links(page):
        assert (await get(f"{served.url}/{link}"))[0] == 200


async def test_the_browser_is_told_to_run_nothing_else(served):
    for path in ("/docs", "/openapi.json", f"/docs/{Viewer().folder}/docs.js"):
        _, headers, _ = await get(served.url + path)
        policy = headers["Content-Security-Policy"].split("; ")
        assert policy[:5] == POLICY
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
    page = static("docs.html").decode()
    assert not re.search(r"<script>|<style|\son\w+=|javascript:", page)  # the policy would stop them


async def test_the_viewers_files_may_be_kept_forever_since_others_have_another_path(served):
    folder = f"{served.url}/docs/{Viewer().folder}"
    for name, media_type in (("docs.js", "text/javascript"), ("swagger-ui.css", "text/css")):
        status, headers, body = await get(f"{folder}/{name}")
        assert (status, body) == (200, static(name))
        assert headers["Content-Type"] == f"{media_type}; charset=utf-8"
        assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    for path in ("docs.html", "LICENSE.txt", "../routes.py", "%2e%2e/routes.py", ""):
        assert (await get(f"{folder}/{path}"))[0] == 404
    changed = Viewer(Viewer().files | {"docs.js": b"other()"})
    assert changed.folder != Viewer().folder


async def test_what_a_caller_knows_already_is_not_sent_again(served):
    for path in ("/openapi.json", "/docs"):
        _, headers, body = await get(served.url + path)
        assert headers["Cache-Control"] == "no-cache"
        for known in (headers["ETag"], f'"other", {headers["ETag"]}', f"W/{headers['ETag']}", "*"):
            status, again, nothing = await get(served.url + path, **{"If-None-Match": known})
            assert (status, again["ETag"], nothing) == (304, headers["ETag"], b"")
        status, _, sent = await get(served.url + path, **{"If-None-Match": '"other"'})
        assert (status, sent) == (200, body)


def test_the_vendored_files_are_upstreams_unchanged_and_small_enough():
    assert {name: hashlib.sha256(static(name)).hexdigest() for name in UPSTREAM} == UPSTREAM
    assert static("VERSION.txt").decode().startswith(f"swagger-ui-dist {viewer_version()}\n")
    assert b"Apache License" in static("LICENSE.txt")
    assert sum(file.stat().st_size for file in STATIC.iterdir()) < BYTES_MAX


def test_the_viewer_is_told_to_fetch_our_document_and_to_ask_no_validator():
    script = static("docs.js").decode()
    assert 'url: "openapi.json"' in script
    assert "validatorUrl: null" in script
    assert "queryConfigEnabled: false" in script
    assert "http" not in script


@pytest.mark.slow
def test_a_wheel_holds_the_page_and_its_licences(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "adapters"):
        (source / name).symlink_to(ROOT / name)
    build = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True, timeout=60
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {f"adapters/http/static/{file.name}" for file in STATIC.iterdir()} <= held
