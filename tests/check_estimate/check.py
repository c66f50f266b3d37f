"""The calculator against a table of measurements: errors by source and in all, and why rows are left out."""

import os
import statistics
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from core.errors import UserError
from core.estimate import speed, trace_runner
from core.estimate.answer import judge, peak, suited
from core.estimate.cards import Card, card
from core.estimate.memory import estimate
from core.estimate.setup import CHOICES
from tests.check_estimate import baselines, litgpt, measurements
from tests.check_estimate.cells import LeftOut, Unanswerable
from tests.check_estimate.measurements import Row

WORST = 5
TRACED = ("hf", "soulsmith")  # stacks whose step is the one that the installed libraries run


@dataclass(frozen=True)
class Comparison:
    """One prediction beside its measurement."""

    row: Row
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Relative, signed: 0.05 is five percent too much."""
        return self.predicted / self.measured - 1


@dataclass
class Report:
    """All comparisons of one way of knowing, and why rows were left out of it."""

    used: list[Comparison] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    unanswerable: int = 0  # of those left out; the others are not modelled

    def leave_out(self, reason: Exception) -> None:
        self.left_out[str(reason)] += 1
        self.unanswerable += isinstance(reason, Unanswerable)

    def add(self, row: Row, predicted: float, measured: float) -> None:
        self.used.append(Comparison(row, predicted, measured))

    def summary(self) -> dict:
        """rows, left_out (unanswerable and not_modelled), median, p90, bias (fractions), reasons and worst rows."""
        worst = sorted(self.used, key=lambda c: -abs(c.error))[:WORST]
        return summarise([c.error for c in self.used]) | {
            "left_out": self.left_out.total(),
            "unanswerable": self.unanswerable,
            "not_modelled": self.left_out.total() - self.unanswerable,
            "reasons": dict(self.left_out.most_common()),
            "worst": [_named(c) for c in worst],
            "errors": [round(c.error, 5) for c in self.used],
        }

    def by_source(self) -> dict[str, dict]:
        sources: dict[str, list[float]] = {}
        for comparison in self.used:
            sources.setdefault(comparison.row.source, []).append(comparison.error)
        return {source: summarise(errors) for source, errors in sources.items()}


def summarise(errors: list[float]) -> dict:
    """Rows, median and 90th percentile of the size of the errors, and their mean."""
    if not errors:
        return {"rows": 0, "median": None, "p90": None, "bias": None}
    sizes = sorted(abs(error) for error in errors)
    return {
        "rows": len(errors),
        "median": round(statistics.median(sizes), 5),
        "p90": round(percentile(sizes, 0.9), 5),
        "bias": round(statistics.fmean(errors), 5),
    }


def percentile(ordered: list[float], share: float) -> float:
    """The value below which a share of an ordered list lies, between neighbours in proportion."""
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def _named(comparison: Comparison) -> dict:
    row = comparison.row
    return {
        "row": row.number,
        "model": row.model,
        "method": row.setup.method,
        "sequence_length": row.setup.max_length,
        "batch_size": row.setup.batch_size,
        "source": row.source,
        "error": round(comparison.error, 4),
    }


@dataclass
class Verdicts:
    """What the calculator says of runs of which it is known whether they ran."""

    rows: int = 0
    right: int = 0
    tight: int = 0
    wrong: list[dict] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """A run that ended is a "fits", one that ran out of memory a "no"; "tight" is neither right nor wrong."""
        self.rows += 1
        said = [told(row)]
        if row.ran == "longest":
            said.append(told(replace(row, setup=row.setup.changed(max_length=2 * row.setup.max_length))))
        expected = {"yes": ["fits"], "no": ["no"], "longest": ["fits", "no"]}[row.ran]
        if all(one in ("tight", other) for one, other in zip(said, expected, strict=True)):
            self.right += said == expected
            self.tight += said != expected
            return
        named = {"row": row.number, "model": row.model, "method": row.setup.method, "source": row.source}
        self.wrong.append(named | {"ran": row.ran, "verdict": ", ".join(said)})


def told(row: Row) -> str:
    """The verdict on a row's setup and card."""
    return judge(row.shape, row.setup, row.card or _any_card(), row.budget)[1]


@dataclass
class Check:
    """What a table shows of the three ways of knowing, and of public calculators on the same rows."""

    instant: Report
    trace: Report
    trace_reserved: Report
    time: Report
    rivals: dict[str, Report]
    verdict: Verdicts

    def as_dict(self) -> dict:
        found = {"instant": self.instant.summary(), "trace": self.trace.summary(), "time": self.time.summary()}
        found["trace"]["reserved"] = self.trace_reserved.summary()
        found["by_source"] = {
            "instant": self.instant.by_source(),
            "trace": self.trace.by_source(),
            "time": self.time.by_source(),
        }
        found["verdict"] = asdict(self.verdict)
        found["rivals"] = {name: report.summary() for name, report in self.rivals.items()}
        return found


def check(path: str | Path, *, trace: bool = True, on_trace=lambda done, total: None) -> Check:
    """Run the calculator over a table."""
    instant, time = Report(), Report()
    others = {name: Report() for name in baselines.FORMULAS}
    understood: list[Row] = []
    traced, verdicts = Report(), Verdicts()
    for number, raw in enumerate(measurements.read(path), start=2):
        try:
            row = measurements.understand(raw, number)
            rows_memory = predicted(row) if not row.why_no_memory else 0
        except (LeftOut, UserError) as reason:
            no_memory, no_time = measurements.silences(raw)
            for report, silence in ((instant, no_memory), (time, no_time), (traced, no_memory)):
                report.leave_out(reason if isinstance(reason, Unanswerable) or not silence else silence)
            continue
        understood.append(row)
        if row.ran and row.budget:
            verdicts.add(row)
        if row.why_no_memory:
            instant.leave_out(row.why_no_memory)
        else:
            instant.add(row, rows_memory, row.measured)
            for name, formula in baselines.FORMULAS.items():
                others[name].add(row, formula(row.shape, row.setup), row.measured)
        if row.why_no_time:
            time.leave_out(row.why_no_time)
        else:
            setup = suited(row.setup, row.card)
            time.add(row, speed.pace(row.shape, setup, row.card).tokens_per_second, row.tokens_per_second)
    reserved = _trace(understood, traced, on_trace) if trace else Report()
    return Check(instant, traced, reserved, time, others, verdicts)


def predicted(row: Row) -> float:
    """The instant answer for what the row measured: allocated, reserved, or the whole process."""
    if row.stack == "litgpt":
        return litgpt.allocated(row.shape, row.setup)
    used = row.card or _any_card()
    memory = estimate(row.shape, row.setup, used.capability)
    if row.kind == "allocated":
        return memory.allocated
    memory = peak(row.shape, row.setup, used)
    return memory.reserved + (memory.context if row.kind == "process" else 0)


def _any_card() -> Card:
    return card("A100 80GB SXM")


def _trace(understood: list[Row], allocated: Report, on_trace) -> Report:
    """Trace the rows whose step the installed libraries run; one process for a core."""
    reserved, chosen = Report(), []
    for row in understood:
        if reason := _why_no_trace(row):
            allocated.leave_out(reason)
        else:
            chosen.append(row)
    with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
        for done, (row, found) in enumerate(zip(chosen, pool.map(_traced, chosen), strict=True), start=1):
            on_trace(done, len(chosen))
            if isinstance(found, UserError):
                allocated.leave_out(found)
                continue
            if row.kind == "allocated":
                allocated.add(row, found["allocated"], row.measured)
            if row.reserved:
                reserved.add(row, found["reserved"], row.reserved)
    return reserved


def _why_no_trace(row: Row) -> LeftOut | None:
    if row.why_no_memory:
        return row.why_no_memory
    if row.stack not in TRACED or row.setup.loss not in CHOICES["loss"]:
        return LeftOut("another stack than the installed one")
    return Unanswerable("neither allocated nor reserved memory is given") if row.kind == "process" else None


def _traced(row: Row) -> dict | UserError:
    try:
        return trace_runner.check(row.shape.name, row.setup, row.card.capability if row.card else 8.0)
    except UserError as error:
        return error


def as_text(found: Check) -> str:
    """The report for a terminal."""
    lines = []
    parts = (
        ("Instant", found.instant),
        ("Trace, allocated", found.trace),
        ("Trace, reserved", found.trace_reserved),
        ("Time", found.time),
    )
    for title, report in parts:
        lines.append(f"{title}: {_line(report.summary())}, {_left_out(report)}")
        lines += [f"    {_line(summary)}  {source[:80]}" for source, summary in report.by_source().items()]
        lines += [
            f"    worst: {w['error']:+.1%} {w['model']} {w['method']} {w['sequence_length']} x {w['batch_size']} (row {w['row']})"
            for w in report.summary()["worst"]
        ]
        lines += [f"    left out: {count} {reason}" for reason, count in report.left_out.most_common()]
    said = found.verdict
    lines.append(f"Verdict: {said.rows} rows, {said.right} right, {said.tight} tight, {len(said.wrong)} wrong")
    lines += [
        f"    wrong: {w['verdict']}, ran: {w['ran']}, {w['model']} {w['method']} (row {w['row']})" for w in said.wrong
    ]
    lines.append("The same rows through public formulas:")
    lines += [f"    {_line(report.summary())}  {name}" for name, report in found.rivals.items()]
    return "\n".join(lines)


def _left_out(report: Report) -> str:
    said = report.summary()
    reasons = f"{said['unanswerable']} that a row cannot answer, {said['not_modelled']} not modelled"
    return f"{said['left_out']} rows left out: {reasons}"


def _line(summary: dict) -> str:
    if not summary["rows"]:
        return "0 rows"
    return "{rows} rows, median {median:.2%}, 90 % within {p90:.2%}, bias {bias:+.2%}".format(**summary)
