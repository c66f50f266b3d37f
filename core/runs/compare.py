"""Runs side by side: which settings differ, on what corpus, and how each ended."""

import json

from core.estimate import forecast
from core.runs import runs, store

FIGURES = ("state", "step", "max_steps", "loss", "base_eval_loss", "eval_loss", "best_eval_loss", "best_step")
FIGURES += ("tokens_per_second", "memory_gib", "corpus_hash", "device")


def compare(run_ids: list[str]) -> dict:
    """{"runs": one row a run, "differ": {field of the config: a value a run}, "same": names of the other fields}."""
    rows = [store.sync(runs.directory(run_id).name) for run_id in run_ids]
    configs = [json.loads(row["config"]) for row in rows]
    fields = list(dict.fromkeys(name for config in configs for name in config))
    differ = {
        name: [config.get(name) for config in configs]
        for name in fields
        if len({json.dumps(config.get(name)) for config in configs}) > 1
    }
    figures = [
        {"run": row["id"], "name": row["name"], "corpus": row["corpus"]}
        | {name: row[name] for name in FIGURES}
        | {"seconds": row["duration_seconds"]}
        | measured(row)
        | {"arena": store.arena(row["id"])}
        for row in rows
    ]
    return {"runs": figures, "differ": differ, "same": [name for name in fields if name not in differ]}


def measured(row: dict) -> dict:
    """What the calculator expected of a run beside what was measured; None where one of the two is not known.

    Memory is that of a card: what a process on a CPU holds is not what was predicted. The time is that of a step of
    the longest batch, as predicted; the measured mean step is counted up to its tokens.
    """
    figures = dict.fromkeys(("predicted_gib", "measured_gib", "predicted_seconds", "measured_seconds"))
    if row["predicted_memory_bytes"] and row["peak_memory_gib"] and row["device"] != "cpu":
        figures |= {"predicted_gib": row["predicted_memory_bytes"] / 2**30, "measured_gib": row["peak_memory_gib"]}
    if row["predicted_seconds_per_step"] and row["seconds_per_step"] and row["tokens_per_step"]:
        tokens = forecast.step_tokens(json.loads(row["config"]), row["longest_row_tokens"])
        figures |= {
            "predicted_seconds": row["predicted_seconds_per_step"],
            "measured_seconds": row["seconds_per_step"] * tokens / row["tokens_per_step"],
        }
    return figures
