"""Files that bite: each is opened in a process with little memory and time, and ends in words."""

import gzip
import json
import math
import os
import resource
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from core import foreign, process
from core.corpus import archives, corpus, import_process, reading, sources, storage
from core.corpus.reading import Options
from core.errors import UserError
from core.estimate import catalogue
from core.models import adapter_check, models
from tests import tiny_tokenizers
from tests.conftest import raises, slow_but
from ui import corpora_new
from ui.text import Say

MEMORY = 400 * 2**20  # bytes, so that the tests are quick
SECONDS = 8.0
# A form that draws itself twice.
RECURSIVE_PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>/Contents 4 0 R>>endobj
4 0 obj<</Length 11>>stream
/X Do /X Do
endstream endobj
5 0 obj<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>/Length 11>>stream
/X Do /X Do
endstream endobj
trailer<</Root 1 0 R/Size 6>>
%%EOF"""


@pytest.fixture(autouse=True)
def little(monkeypatch):
    """Little memory and time, and no process that is left from another test."""
    foreign.close()
    monkeypatch.setattr(process, "MEMORY", MEMORY)
    monkeypatch.setattr(import_process, "MEMORY", MEMORY)
    yield
    foreign.close()


def dictionary(path: Path) -> None:
    """Two kilobytes of Parquet that are a hundred gigabytes of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.DictionaryArray.from_arrays(pa.array([0] * 10**5, pa.int32()), ["x" * 2**20])
    pq.write_table(pa.table({"text": column}), path, compression="zstd")


def bomb(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(300):
            file.write(b"a " * 2**19)


BITING = {
    "recursive.pdf": lambda path: path.write_bytes(RECURSIVE_PDF),
    "dictionary.parquet": dictionary,
    "columns.csv": lambda path: path.write_text("\n".join(",".join("a" * 200_000) for _ in range(30))),
    "bomb.txt.gz": bomb,
    "deep.json": lambda path: path.write_text("[" * 10**6),
}


BEFORE = [0]  # what the children of other tests took, and this process: a child has its memory until it is one


@pytest.fixture(autouse=True)
def before():
    BEFORE[0] = max(peak_of_children(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def peak_of_children() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


@pytest.mark.parametrize("name", slow_but(["dictionary.parquet", "columns.csv", "deep.json"], BITING))
def test_a_file_that_bites_is_looked_into_within_limits(name, tmp_path, monkeypatch):
    if name == "columns.csv":  # it takes any time
        monkeypatch.setitem(foreign.ask.__kwdefaults__, "seconds", 3.0)
    BITING[name](tmp_path / name)
    own, began = psutil.Process().memory_info().rss, time.monotonic()
    *_, (step, seen, looked, *_rest) = corpora_new.on_files(Say("ru"), [str(tmp_path / name)], None)
    assert (step["selected"], seen["visible"]) == (corpora_new.CHECK, True)
    assert ("Traceback" in looked, len(looked) > 20) == (False, True)
    assert psutil.Process().memory_info().rss - own < 100 * 2**20
    assert time.monotonic() - began < foreign.SECONDS + 20


@pytest.mark.slow
def test_what_bites_is_set_aside_and_the_others_are_imported(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, write in BITING.items():
        write(folder / name)
    (folder / "honest.txt").write_text("The keeper lit the lamp.\n\nThe sea went dark.", "utf-8")
    command = [sys.executable, "-m", "core.corpus", "import", str(folder), "--name", "a", "--json"]
    code = f"import resource, sys; from core.corpus import import_process, __main__; import_process.MEMORY = {MEMORY}; code = __main__.main({command[3:]}); sys.exit(code or str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=process.ROOT, check=False)
    assert int(done.stderr) * 1024 <= 2 * MEMORY
    kept = [row["source"]["file"] for row in corpus.rows(json.loads(done.stdout)["id"], 0, 50)]
    assert "honest.txt" in kept
    assert not set(kept) & {"recursive.pdf", "dictionary.parquet", "bomb.txt.gz", "deep.json"}
    aside = {one["file"]: one["reason"] for one in corpus.set_aside(json.loads(done.stdout)["id"], 0, 50)}
    assert (aside["recursive.pdf"], aside["bomb.txt.gz"]) == ("too_large", "packed_too_much")


@pytest.mark.slow
def test_an_import_that_stands_still_ends_and_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(import_process, "SILENT_SECONDS", 3)
    slow = "import time; from core import process; process.opening('slow.txt'); time.sleep(60)"
    with pytest.raises(import_process.ImportBroke, match=r"slow\.txt: too much time"):
        list(import_process.run(["-c", slow], memory=MEMORY, silent=3))


def overlapping(path: Path, members: int) -> None:
    """A ZIP archive whose members all have the same packed bytes: 20,000 of them make a terabyte of a megabyte."""
    text = b"The keeper lit the lamp, a line of many.\n" * 2**20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", text)
        archive.filelist *= members
        archive.start_dir = archive.fp.tell()


def test_members_that_share_their_bytes_are_read_up_to_what_an_honest_archive_holds(tmp_path):
    overlapping(tmp_path / "a.zip", 50)
    source = sources.of_path(tmp_path / "a.zip")
    found = list(archives.of_zip(source))
    read = [one for one in found if isinstance(one, sources.Source)]
    assert 1 <= len(read) < 50
    assert sum(one.size for one in read) <= sources.most_unpacked(source.size)
    assert {one.reason for one in found if isinstance(one, sources.Bad)} == {"packed_too_much"}


def one_page(path: Path, times: int) -> None:
    """A book whose only page is named many times."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("META-INF/container.xml", '<rootfile full-path="a.opf"/>')
        book.writestr("a.opf", '<package><item id="a" href="a.html"/>' + '<itemref idref="a"/>' * times + "</package>")
        book.writestr("a.html", "<html><body>" + "<p>The keeper lit the lamp.</p>" * 40 + "</body></html>")


def nulls(path: Path, rows: int) -> None:
    """A column of nothing: any number of rows in a few bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": pa.nulls(rows, pa.string())}), path)


def repeated_texts(path: Path, rows: int) -> None:
    import pyarrow as pa

    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * 1000])
    batch = pa.record_batch([column], names=["text"])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as out:
        out.write(batch)


REPEATING = {"a.parquet": nulls, "a.arrow": repeated_texts, "a.epub": one_page}


@pytest.mark.parametrize("name", REPEATING)
def test_a_file_that_repeats_itself_is_read_up_to_what_an_honest_one_holds(name, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BOMB_FREE", 2**19)
    monkeypatch.setattr(sources, "BOMB_RATIO", 60)
    for times, is_whole in ((200, True), (40_000, False)):
        REPEATING[name](tmp_path / name, times)
        (file,) = reading.each([tmp_path / name], reading.Options())
        *_, last = read = list(reading.read(file, reading.Options()))
        assert (isinstance(last, reading.Row) or last.reason != "packed_too_much") == is_whole
        assert is_whole or 100 < len(read) < times


def test_what_is_set_aside_is_listed_up_to_a_limit_and_counted_beyond(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "MOST_ASIDE", 5)
    (tmp_path / "a.jsonl").write_text('{"id": 5}\n' * 100 + '{"text": "The keeper lit the lamp."}\n')
    card = corpus.create([tmp_path / "a.jsonl"], "a", out=tmp_path / "made")
    lines = (tmp_path / "made" / "set_aside.jsonl").read_text().count("\n")
    assert (card["rows_set_aside"], sum(card["reasons"].values()), lines) == (100, 100, 5)


def gguf(pairs: int, tensors: int, body: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + body


KEY = struct.pack("<Q", 1) + b"a"
GGUFS = {
    "nothing": b"GGUF",
    "pairs": gguf(2**63, 0),
    "tensors": gguf(0, 2**63),
    "text": gguf(1, 0, KEY + struct.pack("<IQ", 8, 2**62)),
    "array": gguf(1, 0, KEY + struct.pack("<IIQ", 9, 4, 2**62)),
    "arrays in arrays": gguf(1, 0, KEY + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 10**5),
    "tensor behind the end": gguf(0, 1, KEY + struct.pack("<IQIQ", 1, 2**40, 0, 2**40)),
}


@pytest.mark.parametrize("name", GGUFS)
def test_a_gguf_with_absurd_counts_is_refused(name, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(GGUFS[name])
    began = time.monotonic()
    for open_it in (models.check, catalogue.config):
        with pytest.raises(UserError, match=r"model\.gguf"):
            open_it(str(path))
    assert time.monotonic() - began < 30


@pytest.fixture
def directory(tmp_path) -> Path:
    """A model directory in which all is well."""
    path = tiny_tokenizers.build(tmp_path / "model", "chatml")
    (path / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64}))
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    return path


def endless(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.touch()
    os.truncate(path, 10**11)


def tokenizer_with(**steps):
    def write(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | steps))

    return write


def split_by(expression: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


DOUBLED = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
MODELS = {
    "a template that loops": ("chat_template.jinja", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "chat_template was not read within"),
    "a template that writes": ("chat_template.jinja", "{{ 'a' * 10**11 }}", "chat_template takes more than 0.391 GiB"),
    "a template that writes in the fourth turn": ("chat_template.jinja", "{% if messages|length > 3 %}{{ 'a' * 10**11 }}{% endif %}", "chat_template takes more than 0.391 GiB"),
    "a tokenizer without an end": ("tokenizer.json", endless, "tokenizer .* (takes more than|out of memory)"),
    "a tokenizer that doubles": ("tokenizer.json", tokenizer_with(normalizer={"type": "Sequence", "normalizers": [DOUBLED] * 60}), "tokenizer.json .*(takes more than|was not read within)"),
    "a tokenizer that tries all ways": ("tokenizer.json", tokenizer_with(pre_tokenizer=split_by(r"(a+)+$|(\w+\s?)+#")), "tokenizer of .* could not be read: .*retry-limit"),
    "a config without an end": ("config.json", endless, r"config\.json takes more than 0.391 GiB"),
    "a list": ("config.json", "[1]", r"config\.json is not the config of a language model: it is no object"),
    "nested": ("config.json", "[" * 10**5, r"config\.json is not the config of a language model: it is no JSON"),
    "10^6 layers": ("config.json", '{"num_hidden_layers": 1000000}', "num_hidden_layers is 1000000"),
    "10^8 experts": ("config.json", '{"text_config": {"num_experts": 100000000}}', "num_experts is 100000000"),
    "layers in words": ("config.json", '{"text_config": {"num_hidden_layers": "two"}}', 'num_hidden_layers is "two"'),
    "a header of 2^60": ("model.safetensors", struct.pack("<Q", 2**60), "its header is longer than the file"),
    "a tensor behind the end": ("model.safetensors", struct.pack("<Q", 32) + b'{"a":{"data_offsets":[0,10000]}}', "tensors lie behind its end"),
    "a list of tensors": ("model.safetensors", struct.pack("<Q", 2) + b"[]", "could not be read as safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("name", slow_but(MODELS.keys() - {"a tokenizer that doubles"}, MODELS))
def test_a_model_that_bites_is_refused_before_torch_reads_it(name, directory, monkeypatch):
    models.check(str(directory))
    monkeypatch.setattr("core.models.model_check.SECONDS", 2.0 if name == "a template that loops" else SECONDS)
    file, content, words = MODELS[name]
    if callable(content):
        content(directory / file)
    else:
        (directory / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    began = time.monotonic()
    with pytest.raises(UserError, match=words):
        models.check(str(directory))
    assert time.monotonic() - began < SECONDS + 12
    with pytest.raises(UserError):
        models.prepare(str(directory))
    assert peak_of_children() <= max(BEFORE[0], 2 * MEMORY)


def lora(path: Path, shape: list[int], config: dict | str) -> Path:
    """An adapter of one matrix."""
    path.mkdir()
    size = 4 * math.prod(shape)
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
    header = json.dumps({"model.layers.0.q_proj.lora_A.weight": tensor}).encode()
    (path / adapter_check.WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    (path / adapter_check.CONFIG).write_text(config if isinstance(config, str) else json.dumps(config))
    return path


ADAPTERS = {
    "well": ([8, 4], {"r": 8}, None),
    "experts": ([32, 4], {"r": 8}, None),  # the matrices of four experts in one
    "ranks of layers": ([8, 4], {"r": 4, "rank_pattern": {"q_proj": 8}}, None),
    "an expression": (
        [8, 4],
        {"r": 8, "target_modules": r"(?:.*?(?:attn|mlp).*?(?:k_proj|v_proj).*?)|(?:\bmodel\.[\d]{1,}\.q)"},
        None,
    ),
    "endless": ([8, 4], {"r": 8, "target_modules": r"(\w+)+!"}, "is no expression for names of modules"),
    "endless with a choice": ([8, 4], {"r": 8, "exclude_modules": r"(ll|\w)*!"}, "is no expression"),
    "endless with a bound": ([8, 4], {"r": 8, "layers_pattern": "(l?){50}l{50}"}, "is no expression"),
    "endless key": ([8, 4], {"r": 8, "alpha_pattern": {"(.*)*!": 8}}, "is no expression"),
    "no expression": ([8, 4], {"r": 8, "target_modules": "(q"}, "is no expression"),
    "rank": ([8, 4], {"r": 10**6}, "r is 1000000 and its weights have 8"),
    "rank of a layer": ([8, 4], {"r": 8, "rank_pattern": {".*": 10**6}}, "r is 1000000"),
    "rank of nothing": ([10**6, 0], {"r": 10**6}, "r is 1000000 and its weights have 0"),
    "rank in words": ([8, 4], {"r": "many"}, 'r is "many"'),
    "no rank": ([8, 4], {}, "r is null"),
    "layers": ([8, 4], {"r": 8, "layer_replication": [[0, 10**6]]}, "makes 1000000 layers"),
    "layers in words": ([8, 4], {"r": 8, "layer_replication": "all"}, "no list of pairs"),
    "a list": ([8, 4], "[8]", "it is no object"),
    "nested": ([8, 4], "[" * 10**5, "it is no JSON"),
    "long": ([8, 4], " " * 2**21, "more than 1048576 bytes"),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_that_asks_for_more_than_it_holds_is_refused(name, tmp_path):
    shape, config, words = ADAPTERS[name]
    directory = lora(tmp_path / "a", shape, config)
    if words is None:
        assert adapter_check.check(str(directory)) is None
        return
    with raises("AdapterUnsound", match=words):
        adapter_check.check(str(directory))


@pytest.mark.parametrize("weights", [b"", b"x", struct.pack("<Q", 2**60), struct.pack("<Q", 2) + b"[]"])
def test_weights_of_an_adapter_that_cannot_be_read_are_named(weights, tmp_path):
    directory = lora(tmp_path / "a", [8, 4], {"r": 8})
    (directory / adapter_check.WEIGHTS).write_bytes(weights)
    with raises("AdapterUnsound", match=r"adapter_model\.safetensors is not an adapter"):
        adapter_check.check(str(directory))


@pytest.mark.slow
def test_a_preview_with_a_template_that_loops_ends(directory, monkeypatch):
    (directory / "chat_template.jinja").write_text(MODELS["a template that loops"][1])
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    with raises("TookTooLong", match="was not read within 3 s"):
        foreign.ask("preview", row, str(directory), 512, "assistant", file="model", seconds=3)


def test_a_report_reads_with_a_template_that_a_stranger_wrote_within_limits(monkeypatch):
    code = "from core import process; process.opening('a model'); data = ['a'] * 10**9; print({})"
    asked, lines = [], import_process.json_lines

    def biting(arguments, **limits):
        asked.append(limits)
        return lines(["-c", code], **limits)

    monkeypatch.setattr(import_process, "json_lines", biting)
    with pytest.raises(import_process.ImportBroke, match="a model: too much memory"):
        list(import_process.report("a", "a model", 512, "assistant"))
    assert {asked[0][name] for name in ("memory", "silent")} == {MEMORY, import_process.REPORT_SILENT_SECONDS}


@pytest.mark.slow
def test_a_process_is_kept_and_ends_with_who_asked(directory):
    foreign.ask("model", str(directory), file=directory)
    kept = foreign._idle[0].process.pid
    foreign.ask("model", str(directory), file=directory)
    assert [child.process.pid for child in foreign._idle] == [kept]
    code = (
        "import os, signal; from core import foreign\n"
        f"foreign.ask('model', {str(directory)!r}, file='a'); print(foreign._idle[0].process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=process.ROOT, check=False)
    end = time.monotonic() + 10
    while psutil.pid_exists(int(done.stdout)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not psutil.pid_exists(int(done.stdout))


def test_a_closed_look_leaves_no_process(tmp_path):
    (tmp_path / "a.pdf").write_bytes(RECURSIVE_PDF)
    steps = corpora_new.on_files(Say("en"), [str(tmp_path / "a.pdf")], None)
    step, _, looked, *_, stop = next(steps)
    assert (step["selected"], looked, stop["visible"]) == (corpora_new.CHECK, "Reading…", True)
    next(steps)
    before = [child for child in psutil.Process().children() if "core.foreign" in child.cmdline()]
    assert len(before) == 1
    steps.close()
    gone, alive = psutil.wait_procs(before, timeout=10)
    assert (len(gone), alive) == (1, [])


@pytest.mark.slow
def test_files_are_found_from_the_directory_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("The keeper lit the lamp.", "utf-8")
    assert corpus.look([Path("a.txt")])["rows"][0]["row"] == {"text": "The keeper lit the lamp."}
    *_, last = import_process.create([Path("a.txt")], "a", Options(), Path("made"))
    assert (last["card"]["rows"], (tmp_path / "made" / "card.json").is_file()) == (1, True)


def test_a_flood_of_output_is_ended():
    code = "import sys\nwhile True: sys.stdout.write('a' * 2**20)"
    with pytest.raises(process.CommandFailed) as failed:
        list(process.json_lines(["-c", code], memory=MEMORY))
    assert failed.value.cause == "output"


@pytest.mark.parametrize("linux", [True, False])
def test_memory_is_limited_on_every_system(linux, monkeypatch):
    if not linux:  # macOS and Windows have no limit of another process
        monkeypatch.setattr(process, "resource", None)
    code = "data = []\nimport time\nfor _ in range(10**6): data.append(b'x' * 2**24); time.sleep(0.02)"
    with pytest.raises(process.CommandFailed) as failed:
        list(process.json_lines(["-c", code], memory=200 * 2**20))
    assert failed.value.cause == "memory"


def test_options_say_what_was_given_up(tmp_path):
    (tmp_path / "a.txt").write_text("A text.", "utf-8")
    (tmp_path / "b.txt").write_text("Another text.", "utf-8")
    options = Options(given_up={"a.txt": "too_slow"})
    card = corpus.create([tmp_path / "a.txt", tmp_path / "b.txt"], "ab", options=options)
    assert (card["rows_kept"], card["reasons"]) == (1, {"too_slow": 1})
