"""Jobs that write synthetic rows: core.jobs with a recipe, a volume, pause and resume."""

import math
from itertools import islice
from pathlib import Path

import yaml

from core import damage, errors, events, files, jobs, paths
from core.chat import reply_gpu
from core.corpus import corpus, importer, storage
from core.synth import endpoint, job_files, novelty, prompts, recipes, sources, votes, writers

SMALLEST, MOST = 1_000, 20_000_000_000  # tokens
READ = 50  # rows that a person reads at a sitting
CHANGEABLE = (
    *writers.SAMPLING,
    "endpoint",
    "endpoint_model",
    "parallel",
    "timeout",
    "judge_endpoint",
    "judge_model",
)  # while a job is paused


def create(request: dict, directory: Path | None = None) -> Path:
    """Make the directory of a job. `request` is what core.synth.worker.run reads back.

    Raises:
        the errors of core.synth.recipes, PersonasUnused, NothingToPack, VolumeWrong, ShardWrong, MixTooShort,
        ReplayNeedsCorpus, ReplayNeedsGrammar, EndpointNotAnAddress, EndpointHoldsKey.
    """
    recipe = with_replay(request)
    prompts.check_personas(recipe, request.get("personas") or [])
    length = request.get("pack")
    if length is not None and (length < 2 or not request.get("model")):
        raise errors.named("NothingToPack", length=length)
    if not SMALLEST <= int(request["tokens"]) <= MOST:
        raise errors.named("VolumeWrong", tokens=request["tokens"], least=SMALLEST, most=MOST)
    sources.shard_of(request.get("shard"))
    for name in ("endpoint", "judge_endpoint"):
        if request.get(name):
            endpoint.address(request[name])  # before an address with a key is written down
    if recipe.kind == "mix":
        sources.check_mix(recipe, request.get("model"), int(request["tokens"]))
    name = str(request.get("name") or "").strip() or recipe.name
    importer.make_place(directory.parent if directory else paths.synth())
    values = {"recipe": recipe.name, "text": recipe.text, "file": f"{recipe.name}.yaml", "hash": recipe.hash}
    values |= {"name": name, "lang": recipe.lang, "examples": votes.examples(recipe.name)}
    return jobs.create(paths.synth(), request | values, directory)


def with_replay(request: dict) -> recipes.Recipe:
    """The recipe of a request; with a `replay` share in percent the mix of it and of the `replay_corpus`.

    Raises:
        ReplayNeedsCorpus, ReplayNeedsGrammar; the errors of core.synth.recipes.
    """
    recipe, share = recipes.load(request["recipe"]), float(request.get("replay") or 0)
    if not share:
        return recipe
    if not request.get("replay_corpus"):
        raise errors.named("ReplayNeedsCorpus", share=f"{share:g}")
    if recipe.kind != "grammar":
        raise errors.named("ReplayNeedsGrammar", recipe=recipe.name)
    parts = [
        {"recipe": str(request["recipe"]), "share": 100 - share},
        {"corpus": request["replay_corpus"], "share": share},
    ]
    text = yaml.safe_dump({"kind": "mix", "lang": recipe.lang, "parts": parts}, allow_unicode=True)
    return recipes.read(text, f"{recipe.name}.yaml")


def start(directory: Path) -> None:
    """Start the process of a job, detached from this one; a local writer is on the card that the chat is on."""
    jobs.start(directory, "core.synth", reply_gpu.environment())


def stop(directory: Path) -> None:
    """Ask the job to end and make a corpus of what there is; one that is paused or lost is started for it."""
    if not jobs.is_alive(directory):
        resume(directory)
    jobs.ask(directory, "stop")


def resume(directory: Path, changes: dict | None = None, *, again: bool = False) -> None:
    """Start a job again that is paused, failed or lost.

    `changes` of how its model is asked count from the next row on; with `again`, rows that were set aside are asked for
    once more.

    Raises:
        JobStillAtWork, NothingToGoOnWith; EndpointNotAnAddress, EndpointHoldsKey.
    """
    if jobs.is_alive(directory):
        raise errors.named("JobStillAtWork", name=jobs.request(directory)["name"])
    if jobs.state(directory) in ("finished", "stopped"):
        raise errors.named("NothingToGoOnWith", name=jobs.request(directory)["name"])
    change(directory, changes or {}, again=again)
    start(directory)


def change(directory: Path, changes: dict, *, again: bool = False) -> dict:
    """Write down what changes for a job that is not at work: {name: value}; with `again`, what was set aside waits."""
    request = jobs.request(directory)
    now = request | writers.sampling(request)
    wanted = request | {key: value for key, value in changes.items() if key in CHANGEABLE}
    wanted |= writers.sampling(wanted)
    changed = {key: wanted.get(key) for key in CHANGEABLE if wanted.get(key) != now.get(key)}
    for name in ("endpoint", "judge_endpoint"):
        if changed.get(name):
            endpoint.address(changed[name])
    if changed:
        events.cut_partial_line(directory)
        events.append(directory, "changed", **changed)
    if again and job_files.ask_again(directory):
        changed["attempt"] = int(request.get("attempt") or 0) + 1
    if changed:
        files.write_json(directory / "job.json", request | changed)
    return changed


def progress(directory: Path) -> dict:
    """The job's id, request and state, its latest progress, the run that it waits for, the latest x-ray and its ending."""
    last, curve = {}, []
    for event in events.read(directory)[0]:
        last[event["event"]] = event
        if event["event"] == "novelty":
            curve.append(event["point"])
        if event["event"] in ("resumed", "started"):
            last.pop("waiting", None)
    ending, state = events.last(directory) or {}, jobs.state(directory)
    return {
        "id": directory.name,
        "request": jobs.request(directory),
        "state": state,
        "progress": last.get("progress", {}),
        "waits_for": last["waiting"]["run"] if "waiting" in last and state == "running" else None,
        "xray": last.get("xray", {}).get("xray"),
        "curve": curve[:: math.ceil(len(curve) / novelty.SHOWN) or 1],
        "ending": ending if ending.get("event") in events.FINAL and state in events.FINAL else {},
    }


def sample(recipe: str, job_id: str | None = None) -> list[dict]:
    """Up to READ rows of a recipe, {"text"} or {"messages"}, evenly from a job of it, or the first of a grammar.

    Raises:
        NothingToRead: where a model writes and there is no job with rows. The errors of core.synth.recipes.
    """
    rows = _rows(jobs.find(paths.synth(), job_id)) if job_id else []
    if not rows:
        loaded = recipes.load(recipe)
        if loaded.kind != "grammar":
            raise errors.named("NothingToRead", recipe=loaded.name)
        rows = [loaded.make(0, number) for number in range(READ)]
    rows = rows[:: max(1, len(rows) // READ)][:READ]
    return [{key: row[key] for key in ("text", "messages") if key in row} for row in rows]


def _rows(directory: Path) -> list[dict]:
    """The first rows that a job has written, or of the corpus that came of it."""
    rows = list(islice(files.lines(directory / "rows.jsonl", damage.ROW), 100 * READ))
    made = events.last(directory) or {}
    if not rows and made.get("corpus"):
        place = jobs.request(directory).get("out") or made["corpus"]
        rows = list(islice(storage.all_rows(corpus.locate(str(place))), 100 * READ))
    return rows
