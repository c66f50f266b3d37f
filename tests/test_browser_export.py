"""The Export tab in a real browser, on a tiny model: GGUF files measured and downloaded, the server's switch, the hub.

In English and in Russian; `--screenshots DIR` keeps the pictures.
"""

import json
import os
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import httpx
import openai
import pytest

from core import jobs, paths
from core.export import export, quantizer
from core.serve import serve
from tests.test_browser import CHROMIUM, Server, browser, open_tab, opened, picture, wait_until  # noqa: F401
from ui.text import Say

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
]
MOST_CONTROLS = 16  # in sight when the tab is opened
CONTROLS = "button, input:not([type=radio]), [role=radiogroup], fieldset, summary, textarea, [role=combobox]"


@pytest.fixture
def server(home, trained):
    shutil.copytree(trained[0], home)
    server = Server(home)
    server.start()
    yield server
    server.kill()
    serve.stop()
    with suppress(OSError, ValueError):
        os.kill(json.loads((paths.home() / "chat.json").read_text())["pid"], signal.SIGKILL)


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_a_run_is_taken_along(browser, server, picture, lang):  # noqa: F811 (fixtures)
    say = Say(lang)
    page = opened(browser, server, {"en": "en-US", "ru": "ru-RU"}[lang])
    open_tab(page, say, "export")
    panel = page.get_by_role("tabpanel").filter(has_text=say("export.intro"))
    controls = [one for one in panel.locator(CONTROLS).all() if one.is_visible()]
    assert 0 < len(controls) <= MOST_CONTROLS
    picture(page, f"export-open-{lang}")
    gguf_is_measured_and_downloaded(page, say)
    picture(page, f"export-gguf-{lang}")
    the_server_is_switched(page, say, picture, lang)
    page.get_by_text(say("hub.title"), exact=True).click()
    page.get_by_label(say("hub.repo"), exact=False).first.fill("not a name")
    page.get_by_role("button", name=say("hub.push"), exact=True).click()
    page.get_by_text(re.compile(re.escape(say("hub.repo")))).first.wait_for()
    page.get_by_text("owner/name", exact=False).first.wait_for()
    picture(page, f"export-hub-{lang}")
    assert page.foreign == []
    page.context.close()


def gguf_is_measured_and_downloaded(page, say: Say) -> None:
    page.get_by_label(say("export.gguf"), exact=True).check()
    kinds = quantizer.usual()
    assert all(page.get_by_label(say(f"export.file.{kind}"), exact=True).is_checked() for kind in kinds)
    page.get_by_role("button", name=say("export.start"), exact=True).click()
    page.locator("table.figures caption").wait_for(timeout=240_000)
    (directory,) = jobs.listed(paths.exports())
    files = export.files_of(directory)
    smallest = min((name for name in files if name.endswith(".gguf")), key=lambda name: files[name].stat().st_size)
    with page.expect_download() as begun:
        page.get_by_role("link", name=say("export.download", file=smallest), exact=True).click()
    assert begun.value.suggested_filename == Path(smallest).name
    assert Path(begun.value.path()).read_bytes() == files[smallest].read_bytes()
    answer = page.request.get(f"{page.url.split('#')[0]}exports/{directory.name}/../../page.token")
    assert answer.status == 404 or "<html" in answer.text()


def the_server_is_switched(page, say: Say, picture, lang: str) -> None:  # noqa: F811 (the fixture)
    page.get_by_text(say("serve.title"), exact=True).click()
    page.get_by_label(say("serve.port"), exact=True).fill("0")
    page.get_by_label(say("serve.switch"), exact=True).check()
    address = page.get_by_text(re.compile(r"^http://127\.0\.0\.1:\d+/v1$"))
    address.wait_for(timeout=60_000)
    picture(page, f"export-serve-{lang}")
    client = openai.OpenAI(base_url=address.inner_text(), api_key=serve.key())
    run_id = next(model.id for model in client.models.list() if model.id.startswith("run:"))
    said = client.chat.completions.create(model=run_id, messages=[{"role": "user", "content": "lamp?"}], max_tokens=4)
    assert said.usage.completion_tokens <= 4
    page.get_by_label(say("serve.switch"), exact=True).uncheck()
    page.get_by_text(say("serve.off"), exact=True).wait_for(timeout=60_000)
    wait_until(lambda: jobs.state(serve.current()) == "stopped")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{client.base_url}models")
