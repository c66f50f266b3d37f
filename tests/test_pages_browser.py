"""Every tab in a real browser: its language, its letters, what a screen reader makes of it, what a phone shows."""

import re
import threading
from dataclasses import dataclass

import pytest

from core.corpus import corpus
from core.runs import runs
from core.sharing.sharing import Limits, Share
from tests.screenshots import DESK, LOCALES, PHONE, TABS, to_tab
from tests.test_browser import CHROMIUM, FLAGS, Server
from ui import sharing_process
from ui.text import Say, glossary

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
]

PLANTED = "hf_planted_in_the_page_s_environment"
# Names, and what the field itself writes in Latin letters.
NAMES = re.compile(
    r"\b(?:[\w.-]+/[\w.-]+|[A-Z]{2,}\w*|\w*[\d_.]\w*|Hugging Face Hub|IBM Plex|Soulsmith|Gradio|Ctrl|Enter|Shift|Wi-Fi|"
    r"Qwen|Llama|Mistral|Gemma|Saiga|apache|NVIDIA|GeForce|RTX|Blackwell|Workstation|Edition|Chrome|LM Studio|Ollama)\b"
)
TEXTS = """() => {
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode, box = node.parentElement;
    if (!box.checkVisibility({visibilityProperty: true}) || box.closest('script,style,code,pre,svg,q,[lang]')) continue;
    found.push(node.textContent.trim());
  }
  for (const box of document.querySelectorAll('[placeholder],[aria-label],[title]')) {
    if (!box.checkVisibility({visibilityProperty: true}) || box.closest('[lang],svg')) continue;
    for (const name of ['placeholder', 'aria-label', 'title']) found.push((box.getAttribute(name) || '').trim());
  }
  return [...new Set(found)].filter(text => text);
}"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("empty") / "дом")
    server.home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", PLANTED)
        server.start()
    yield server
    server.kill()


def window(browser, address: str, lang: str, **more):
    page = browser.new_context(locale=LOCALES[lang], viewport={"width": 1280, "height": 900}, **more).new_page()
    page.set_default_timeout(30_000)
    page.goto(address)
    page.get_by_role("tab").first.wait_for()
    page.wait_for_timeout(1000)
    return page


def foreign(text: str, lang: str) -> bool:
    """Whether a text is in the other language: Cyrillic in the English page, two plain English words in the Russian."""
    if lang == "en":
        return bool(re.search("[а-яё]{2}", text, re.IGNORECASE))
    words = re.findall(r"\b[A-Za-z][a-z'’]+\b", NAMES.sub(" ", text))
    return (len(words) >= 2 and not re.search("[а-яё]{2}", text, re.IGNORECASE)) or len(words) >= 6


def test_enter_takes_the_card_that_was_typed(browser, server):
    """Not the first of the list whose name contains it: "RTX 4070" is no RTX 4070 Ti SUPER."""
    page, say = window(browser, server.address, "en"), Say("en")
    to_tab(page, say, "calculator")
    page.locator(".mosaic").first.wait_for()  # what the tab fills in when it opens is there
    card = page.get_by_label(say("calculator.card")).first
    card.click()
    page.keyboard.press("Control+a")
    page.keyboard.type("RTX 4070")
    page.get_by_role("option", name="RTX 4070 Ti SUPER").first.wait_for()
    page.keyboard.press("Enter")
    page.get_by_role("option").first.wait_for(state="hidden")
    assert card.input_value() == "RTX 4070"
    page.context.close()


def test_no_call_of_an_event_overtakes_the_one_before_it(browser, server):
    page, calls = window(browser, server.address, "en"), []
    page.route("**/called?*", lambda route: calls.append(route))
    page.evaluate(
        """() => {
          const call = (name, event) => fetch(`/called?${name}`, { method: "POST", body: `{"fn_index":${event}}` });
          window.calls = Promise.allSettled([call("first", 1), call("second", 1), call("other", 2), call("third", 1)]);
        }"""
    )
    page.wait_for_timeout(500)
    assert sorted(call.request.url.split("?")[1] for call in calls) == ["first", "other"]
    calls[0].abort()  # one that fails holds up none
    page.wait_for_timeout(500)
    assert [call.request.url.split("?")[1] for call in calls[2:]] == ["second"]
    for call in calls[1:3]:
        call.fulfill(body="{}")
    page.wait_for_timeout(500)
    calls[3].fulfill(body="{}")
    states = page.evaluate("async () => (await window.calls).map((one) => one.status)")
    assert states == ["rejected", "fulfilled", "fulfilled", "fulfilled"]
    page.context.close()


def test_a_menu_stays_open_while_the_page_opens_what_the_address_names(browser, server):
    page = browser.new_context(viewport=PHONE).new_page()
    page.goto(server.address)
    menu = page.locator(".overflow-dropdown").first
    page.locator(".overflow-menu button").first.click()
    menu.wait_for()
    page.evaluate("() => place.click('#place-moved')")
    page.wait_for_timeout(500)
    assert menu.is_visible()
    page.get_by_role("heading").first.click()
    menu.wait_for(state="hidden")
    page.context.close()


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_no_sentence_of_the_other_language_is_on_the_page(browser, server, lang):
    """Whatever the browser speaks: the other language is its own, and this one was clicked."""
    page, found = window(browser, server.address, "ru" if lang == "en" else "en"), {}
    page.get_by_role("link", name={"en": "English", "ru": "Русский"}[lang], exact=True).click()
    page.get_by_role("tab", name=Say(lang)("page.opening"), exact=True).wait_for()
    page.wait_for_timeout(1000)
    for tab in TABS:
        to_tab(page, Say(lang), tab)
        page.wait_for_timeout(700)
        if strange := [text for text in page.evaluate(TEXTS) if foreign(text, lang)]:
            found[tab] = strange
    to_tab(page, Say(lang), "corpus")
    page.get_by_label(re.compile(re.escape(Say(lang)("corpora.hub")))).first.fill("nameless")
    page.get_by_role("button", name=Say(lang)("corpora.hub.fetch"), exact=True).click()
    notice = page.get_by_test_id("toast-body")  # no data set of the hub is called so
    notice.wait_for()
    assert not re.search(r"\b(Error|Info|Warning)\b", notice.inner_text())
    told = PLANTED in page.content()  # after the answers of every tab
    page.context.close()
    assert found == {}
    assert not told
    assert [file for file in server.home.rglob("*") if file.is_file() and PLANTED.encode() in file.read_bytes()] == []


def test_an_empty_page_on_a_phone_says_what_to_do_and_shows_nothing_empty(browser, server):
    from playwright.sync_api import expect

    say, page = Say("ru"), browser.new_context(locale="ru-RU", viewport=PHONE).new_page()
    page.set_default_timeout(60_000)
    page.goto(server.address)
    for tab in ("runs", "training"):
        to_tab(page, say, tab)
        page.locator(".nothing-yet").filter(visible=True).wait_for()
        assert page.locator(".filled").filter(visible=True).count() == 0
    act = page.locator("#training-act .row button").filter(visible=True)
    assert len({round(button.bounding_box()["height"]) for button in act.all()}) == 1
    to_tab(page, say, "playground")
    nobody = page.get_by_text(say("playground.empty"))
    expect(nobody).to_be_in_viewport(ratio=1)
    composer = page.get_by_placeholder(say("playground.prompt.placeholder")).bounding_box()
    place = nobody.bounding_box()
    assert place["y"] + place["height"] <= composer["y"]
    page.context.close()


def test_every_cyrillic_letter_is_of_the_theme_s_own_font(browser, server):
    page = window(browser, server.address, "ru")
    used = set()
    for tab in ("opening", "training"):
        to_tab(page, Say("ru"), tab)
        page.wait_for_timeout(700)
        used |= fonts(page)
    page.context.close()
    assert {font for font in used if "Plex" not in font} == set()


def fonts(page) -> set[str]:
    """The fonts that headings, buttons, labels and paragraphs are really drawn with."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("DOM.enable")
    devtools.send("CSS.enable")
    root = devtools.send("DOM.getDocument")["root"]["nodeId"]
    used = set()
    for kind in ("h1", "h2", "h3", "p", "button", "label span"):
        for node in devtools.send("DOM.querySelectorAll", {"nodeId": root, "selector": kind})["nodeIds"][:12]:
            drawn = devtools.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
            used |= {font["familyName"] for font in drawn if font["glyphCount"] > 2}
    return used


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screen_reader_finds_nothing_serious(browser, server, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page, found = window(browser, server.address, "en", color_scheme=scheme), {}
    for tab in TABS:
        to_tab(page, Say("en"), tab)
        for _ in range(4):  # an answer that is waited for is faded, which no contrast survives
            page.wait_for_timeout(700)
            serious = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
            if not serious:
                break
        if serious:
            found[tab] = {v["id"]: [node["html"][:160] for node in v["nodes"]] for v in serious}
    page.context.close()
    assert found == {}


def test_a_term_is_explained_on_hover(browser, server):
    page = window(browser, server.address, "ru")
    to_tab(page, Say("ru"), "training")
    term, told = page.locator("dfn[data-term=epoch]").filter(visible=True).first, page.get_by_role("tooltip")
    term.hover()
    told.wait_for()
    assert told.inner_text() == glossary("ru")["epoch"][1]
    told.hover()  # it may be read there
    page.wait_for_timeout(500)
    assert told.count() == 1
    page.mouse.move(5, 5)
    told.wait_for(state="detached")
    page.context.close()


def test_a_tap_explains_a_term_and_another_takes_it_away(browser, server):
    """A second tap on it, or one anywhere else; the field whose label it stands in does not take the tap."""
    page = browser.new_context(locale="ru-RU", viewport=PHONE, has_touch=True, is_mobile=True).new_page()
    page.goto(server.address)
    to_tab(page, Say("ru"), "training")
    term, told = page.locator("dfn[data-term=epoch]").filter(visible=True).first, page.get_by_role("tooltip")
    for _ in range(2):
        term.tap()
        told.wait_for()
        assert told.inner_text() == glossary("ru")["epoch"][1]
        assert page.evaluate("document.activeElement.dataset.term") == "epoch"
        box = told.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
        term.tap()
        told.wait_for(state="detached")
    term.tap()
    told.wait_for()
    told.tap()  # it may be touched, and read on
    page.wait_for_timeout(300)
    assert told.count() == 1
    page.get_by_role("heading").first.tap(force=True)
    told.wait_for(state="detached")
    page.context.close()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screen_reader_finds_nothing_beside_an_open_term(browser, server, scheme, size):
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_context(locale="en-US", viewport=size, color_scheme=scheme).new_page()
    page.goto(server.address)
    to_tab(page, Say("en"), "training")
    page.locator("dfn[data-term=epoch]").filter(visible=True).first.focus()
    page.get_by_role("tooltip").wait_for()
    page.wait_for_timeout(1500)  # an answer that is waited for is faded, which no contrast survives
    found = Axe().run(page).response["violations"]
    assert page.get_by_role("tooltip").count() == 1
    page.context.close()
    assert {v["id"]: [node["html"][:160] for node in v["nodes"]] for v in found} == {}


def test_the_opening_screen_leads_to_each_tab(browser, server):
    say = Say("en")
    page = window(browser, server.address, "en")
    for way in ("calculator", "corpus", "training", "playground", "export"):
        to_tab(page, say, "opening")
        page.locator(f'.road a[href="#{way}"], .next-steps a[href="#{way}"]').first.click()
        page.get_by_role("tab", name=say(f"page.{way}"), exact=True, selected=True).wait_for()
    page.context.close()


@dataclass
class Said:
    text: str
    tokens: int


@pytest.fixture
def served():
    """The visitors' page of a share that answers when it is let: (share, address, event)."""
    let = threading.Event()

    def answer(conversations, most_tokens):
        let.wait(60)
        words = conversations["base"][-1]["content"]
        yield {
            "base": Said(f"<b>base</b> <img src=http://a.b/d> {words}", 2),
            "tuned": Said(f"![tuned](http://a.b/c) {words}", 2),
        }

    share = Share(answer, Limits())
    server, port = sharing_process.serve(share, "echo", "127.0.0.1", None)
    yield share, f"http://127.0.0.1:{port}/", let
    share.end()
    server.should_exit = True


def test_a_visitor_on_a_phone_comes_in_and_chats_by_keyboard(browser, served):
    from axe_playwright_python.sync_playwright import Axe

    share, address, let = served
    say, asked = Say("ru"), []
    page = browser.new_context(locale="ru-RU", viewport=PHONE).new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    page.goto(f"{address}#{share.password}")  # as the QR code does
    prompt = page.get_by_label(say("sharing.message"), exact=True)
    prompt.wait_for()
    assert share.password not in page.url
    share.ask(
        share.visitor(share.log_in(share.password, "another")),
        {name: [{"role": "user", "content": "a"}] for name in ("base", "tuned")},
    )
    prompt.fill("море")
    page.keyboard.press("Enter")
    page.get_by_text(say("sharing.place", place=1)).wait_for()
    let.set()
    page.get_by_text(say("sharing.left", messages=99)).wait_for()
    replies = page.locator(".bot.message").all_inner_texts()
    assert [reply.strip() for reply in replies] == [
        "<b>base</b> <img src=http://a.b/d> море",
        "![tuned](http://a.b/c) море",
    ]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    serious = [v["id"] for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    assert serious == []
    page.context.close()


def test_the_address_holds_the_tab_and_the_run(browser, tmp_path, monkeypatch):
    """Back, a reload, an address in a new window; a run that is gone is said to be."""
    from tests.share_probe import make_run

    home = tmp_path / "дом"
    home.mkdir()
    monkeypatch.setenv("SOULSMITH_HOME", str(home))
    make_run(home)
    run = runs.listed()[0]
    server = Server(home)
    server.start()
    try:
        page = window(browser, server.address, "ru")
        say, root = Say("ru"), server.address.split("?")[0]

        def stands(tab: str, pick: str = "") -> None:
            page.wait_for_url(f"{root}#{tab}{pick and '/' + pick}")
            page.locator(f"[role=tab][aria-selected=true][data-tab-id={tab}]").wait_for()

        stands("opening")
        to_tab(page, say, "training")
        stands("training", run)
        to_tab(page, say, "export")
        stands("export")
        page.go_back()
        stands("training", run)
        page.go_back()
        stands("opening")
        page.go_forward()
        stands("training", run)
        page.reload()
        stands("training", run)
        page.goto(f"{root}#runs/{run}")
        stands("runs", run)
        page.get_by_label(say("runs.note"), exact=True).wait_for()
        page = page.context.new_page()
        page.goto(f"{root}#runs/gone")
        page.get_by_text(say("runs.gone", run="gone")).wait_for()
        page.goto(f"{root}#no-such-tab")
        page.locator("[role=tab][aria-selected=true][data-tab-id=opening]").wait_for()
    finally:
        server.kill()


def test_a_step_that_was_clicked_stays_when_the_server_s_own_choice_comes_late(browser, tmp_path, monkeypatch):
    monkeypatch.setenv("SOULSMITH_HOME", str(tmp_path))
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"".join(b'{"text": "The tide was out %d times."}\n' % number for number in range(9)))
    corpus.create([rows], "tides")
    server = Server(tmp_path)
    server.start()
    try:
        page, say, held = window(browser, server.address, "en"), Say("en"), []
        page.route("**/queue/join*", lambda route: held.append(route) if held is not None else route.continue_())
        to_tab(page, say, "corpus")
        step = {name: page.get_by_role("tab", name=say(f"corpora.step.{name}")) for name in ("take", "read")}
        step["take"].click()
        page.wait_for_timeout(500)
        calls, held = held, None
        assert calls
        for call in calls:
            call.continue_()
        page.wait_for_timeout(3000)
        assert step["take"].get_attribute("aria-selected") == "true"
        to_tab(page, say, "calculator")
        page.reload()
        to_tab(page, say, "corpus")
        page.wait_for_timeout(3000)
        assert step["read"].get_attribute("aria-selected") == "true"
    finally:
        server.kill()
