"""A run's metrics for other programs: CSV, TensorBoard, trackio. Run it: `python -m core.runs metrics RUN --csv FILE`."""

import csv
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from core.errors import UserError
from core.runs import runs, store
from core.runs.curves import STEP

COLUMNS = (*STEP, "eval_loss", "forgetting", "foreign")


class PackageMissing(UserError):
    template = "This needs the package {package}. Install it with: pip install {package}"


def write(run_id: str, to_csv: str | None = None, tensorboard: str | None = None, trackio: str | None = None) -> dict:
    """Write where it is asked for; by default metrics.csv in the current directory. Returns the places and the rows."""
    if not (to_csv or tensorboard or trackio):
        to_csv = "metrics.csv"
    found, places = rows(run_id), {}
    if to_csv:
        places["csv"] = str(as_csv(found, Path(to_csv)))
    if tensorboard:
        places["tensorboard"] = as_tensorboard(run_id, found, tensorboard)
    if trackio:
        places["trackio"] = as_trackio(run_id, found, trackio)
    return {"rows": len(found), **places}


def rows(run_id: str) -> list[dict]:
    """One row a step, all of them: what was logged, evaluated and measured there."""
    runs.directory(run_id)
    store.sync(run_id, seconds=float("inf"))
    by_step: dict[int, dict] = {}
    with store.opened() as db:
        for row in db.query("select * from steps where run_id = ?", [run_id]):
            by_step[row["step"]] = {name: row[name] for name in STEP}
        for row in db.query("select step, eval_loss from evals where run_id = ?", [run_id]):
            by_step.setdefault(row["step"], {"step": row["step"]})["eval_loss"] = row["eval_loss"]
        for row in db.query("select * from forgetting where run_id = ?", [run_id]):
            kept = by_step.setdefault(row["step"], {"step": row["step"]})
            kept |= {"forgetting": row["score"], "foreign": row["foreign_share"]}
    return [by_step[step] for step in sorted(by_step)]


def as_csv(found: list[dict], path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        table.writerows(found)
    return path


def as_tensorboard(run_id: str, found: list[dict], folder: str) -> str:
    try:
        from tensorboardX import SummaryWriter  # noqa: PLC0415 - optional package
    except ImportError:
        raise PackageMissing(package="tensorboardX") from None
    place = Path(folder) / run_id
    with SummaryWriter(str(place)) as writer:
        for row in found:
            for name in COLUMNS[1:]:
                if row.get(name) is not None:
                    writer.add_scalar(name, row[name], row["step"])
    return str(place)


def as_trackio(run_id: str, found: list[dict], project: str) -> str:
    try:
        import trackio  # noqa: PLC0415 - optional package
    except ImportError:
        raise PackageMissing(package="trackio") from None
    config, name = json.loads(store.sync(run_id)["config"]), f"{runs.label(run_id)['name']} {run_id}"
    with redirect_stdout(sys.stderr):  # it talks, and here only the answer goes to the output
        trackio.init(project=project, name=name, config=config, embed=False, auto_log_gpu=False, auto_log_cpu=False)
        for row in found:
            trackio.log({key: row[key] for key in COLUMNS[1:] if row.get(key) is not None}, step=row["step"])
        trackio.finish()
    return project
