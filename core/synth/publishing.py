"""The rows of a job become a corpus like any other, with a card that says how they were made."""

from pathlib import Path

import orjson

from core import paths
from core.corpus import diversity_metrics, importer, storage, turns
from core.synth import resuming


def publish(job) -> tuple[dict, dict]:
    """The card of the corpus and the x-ray of its rows, evenly sampled; done once however often it is begun."""
    source = job.directory / "rows.jsonl"
    out = Path(job.request["out"]).absolute() if job.request.get("out") else None
    every, sample = max(1, job.rows // diversity_metrics.SAMPLE), []
    for existing in [out] if out else [path for path in paths.corpora().iterdir() if path.name[0] != "."]:
        if (existing / "card.json").is_file() and storage.read_card(existing).get("job") == job.directory.name:
            rows = list(storage.all_rows(existing))[::every]
            return storage.read_card(existing), diversity_metrics.measure([turns.learned(row) for row in rows])

    def rows():
        for number, row in enumerate(resuming.read(source)):
            if number % every == 0 and len(sample) < diversity_metrics.SAMPLE:
                sample.append(turns.learned(row))
            yield row | {"source": {"file": job.request["file"], "line": row["recipe"]["row"]}}

    if out is None:
        out = paths.corpora() / storage.free_name(paths.corpora(), job.request["name"])
    card = importer.create_from_rows(rows(), job.request["name"], parent=None, note=_note(job), out=out)
    with (out / "set_aside.jsonl").open("ab") as file:
        for one in resuming.read(job.directory / "aside.jsonl"):
            kept = {key: one[key] for key in ("reason", "detail", "excerpt")}
            file.write(orjson.dumps({"file": job.request["file"], "line": one["row"]} | kept) + b"\n")
    return card, diversity_metrics.measure(sample)


def _note(job) -> dict:
    """What the card says beyond the usual: the recipe whole, so that the corpus can be made again."""
    request = job.request
    kept = ("seed", "model", "writer", "endpoint", "endpoint_model", "temperature", "max_tokens", "corpus")
    return {
        "job": job.directory.name,
        "synth": {
            "recipe": job.recipe.name,
            "hash": job.recipe.hash,
            "kind": job.recipe.kind,
            "text": job.recipe.text,
            "tokens": job.tokens,
            "tokens_exact": bool(request.get("model")),
            "duplicates_dropped": job.dropped,
            "copies": dict(job.copies),
            "set_aside": dict(job.aside),
        }
        | {key: request[key] for key in kept if request.get(key) is not None},
        "rows_set_aside": sum(job.aside.values()),
        "reasons": dict(job.aside),
        "rows_in": job.next,
    }
