"""A run's metrics for other programs: CSV, TensorBoard, trackio. Run it: `python -m core.runs metrics RUN --csv FILE`."""

import csv
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from core import errors
from core.runs import runs, store
from core.runs.curves import PREFERENCES, STEP

COLUMNS = (*STEP, "eval_loss", "forgetting", "foreign")
PREFERENCE_COLUMNS = (*PREFERENCES, *(f"eval_{name}" for name in PREFERENCES))  # of a run on preference pairs


def write(run_id: str, to_csv: str | None = None, tensorboard: str | None = None, trackio: str | None = None) -> dict:
    """Write a run's metrics to a CSV file (by default metrics.csv here), a directory of TensorBoard, a trackio project.

    Returns {"rows": how many, and of "csv", "tensorboard", "trackio" what was written to}.

    Raises:
        RunGone, PackageMissing.
    """
    if not (to_csv or tensorboard or trackio):
        to_csv = "metrics.csv"
    logged, places = rows(run_id), {}
    if to_csv:
        places["csv"] = str(as_csv(logged, Path(to_csv)))
    if tensorboard:
        places["tensorboard"] = as_tensorboard(run_id, logged, tensorboard)
    if trackio:
        places["trackio"] = as_trackio(run_id, logged, trackio)
    return {"rows": len(logged), **places}


def rows(run_id: str) -> list[dict]:
    """One row a step, by step, none left out: the keys of COLUMNS that were logged, evaluated or measured there."""
    runs.directory(run_id)
    store.sync(run_id, seconds=float("inf"))
    by_step: dict[int, dict] = {}
    with store.opened() as db:
        for row in db.query("select * from steps where run_id = ?", [run_id]):
            by_step[row["step"]] = {name: row[name] for name in STEP}
        for row in db.query("select step, eval_loss from evals where run_id = ?", [run_id]):
            by_step.setdefault(row["step"], {"step": row["step"]})["eval_loss"] = row["eval_loss"]
        for row in db.query("select * from preferences where run_id = ?", [run_id]):
            prefix = "eval_" if row["part"] == "eval" else ""
            measured = by_step.setdefault(row["step"], {"step": row["step"]})
            measured |= {f"{prefix}{name}": row[name] for name in PREFERENCES}
        for row in db.query("select * from forgetting where run_id = ?", [run_id]):
            measured = by_step.setdefault(row["step"], {"step": row["step"]})
            measured |= {"forgetting": row["score"], "foreign": row["foreign_share"]}
    return [by_step[step] for step in sorted(by_step)]


def as_csv(logged: list[dict], path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        more = [name for name in PREFERENCE_COLUMNS if any(name in row for row in logged)]
        table = csv.DictWriter(file, [*COLUMNS, *more], restval="")
        table.writeheader()
        table.writerows(logged)
    return path


def as_tensorboard(run_id: str, logged: list[dict], folder: str) -> str:
    try:
        from tensorboardX import SummaryWriter  # noqa: PLC0415 - optional package
    except ImportError:
        raise errors.named("PackageMissing", package="tensorboardX") from None
    place = Path(folder) / run_id
    with SummaryWriter(str(place)) as writer:
        for row in logged:
            for name in (*COLUMNS[1:], *PREFERENCE_COLUMNS):
                if row.get(name) is not None:
                    writer.add_scalar(name, row[name], row["step"])
    return str(place)


def as_trackio(run_id: str, logged: list[dict], project: str) -> str:
    try:
        import trackio  # noqa: PLC0415 - optional package
    except ImportError:
        raise errors.named("PackageMissing", package="trackio") from None
    config, name = json.loads(store.sync(run_id)["config"]), f"{runs.label(run_id)['name']} {run_id}"
    with redirect_stdout(sys.stderr):  # it prints, and only the answer belongs on stdout
        trackio.init(project=project, name=name, config=config, embed=False, auto_log_gpu=False, auto_log_cpu=False)
        for row in logged:
            known = (*COLUMNS[1:], *PREFERENCE_COLUMNS)
            trackio.log({key: row[key] for key in known if row.get(key) is not None}, step=row["step"])
        trackio.finish()
    return project
