"""Predictions beside measurements as rows and as Markdown tables: the arithmetic of tests/bench_gpu.py."""

from core.estimate.memory import GIB

KINDS = ("allocated", "reserved")
WAYS = ("instant", "traced")


def row(job: dict, predicted: dict, measured: dict) -> dict:
    """A job with both sides in GiB and seconds, and the relative errors: 0.05 is five percent too much predicted."""
    trouble = measured.get("trouble") or predicted["traced"].get("trouble")
    sizes = {f"{way}_{kind}": _gib(predicted[way].get(kind)) for way in WAYS for kind in KINDS}
    seen = {kind: _gib(measured.get(kind)) for kind in (*KINDS, "load_allocated", "context")}
    errors = {name: _error(size, seen[name.partition("_")[2]]) for name, size in sizes.items()}
    times = {f"{way}_seconds": seconds for way, seconds in predicted["seconds"].items()}
    errors |= {name: _error(seconds, measured.get("seconds")) for name, seconds in times.items()}
    others = {key: value for key, value in measured.items() if key not in (*seen, "trouble")}
    return {
        **job,
        "predicted_gib": sizes | {"context": _gib(predicted.get("context"))},
        "predicted_seconds": times,
        "measured_gib": seen,
        "measured": others,
        "errors": errors,
        "trouble": trouble,
    }


def _gib(size: float | None) -> float | None:
    return None if size is None else size / GIB


def _error(predicted: float | None, measured: float | None) -> float | None:
    return predicted / measured - 1 if predicted is not None and measured else None


def line(one: dict) -> str:
    """A job in one line for the terminal."""
    if not one["measured"]:
        return f"{one['job']}: {one['trouble']}"
    seen, errors = one["measured_gib"], one["errors"]
    parts = [f"{one['measured']['seconds']:.4g} s a step ({_percent(errors['known_seconds'])} predicted)"]
    for kind in KINDS:
        if seen[kind] is not None:
            said = ", ".join(f"{way} {_percent(errors[f'{way}_{kind}'])}" for way in WAYS)
            parts.append(f"{kind} {seen[kind]:.2f} GiB ({said})")
    return f"{one['job']}: " + "; ".join(parts)


def page(found: dict) -> str:
    """The section of tests/benchmarks.md for one card: the machine, memory, time, what failed."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    size = f"{found['total_bytes'] / GIB:.1f} GiB, " if "total_bytes" in found else ""
    head = [
        f"### {found['card']}",
        "",
        f"{found['date']}; {size}{found['tflops']:.3g} TFLOP/s in square products, {found['catalogue_tflops']:.3g} "
        f"by the catalogue; {versions}. Random weights, rows of "
        f"full length, batch_size {found['batch_size']}, {found['steps']} steps of which the first is not counted.",
        "Errors are predicted / measured - 1.",
    ]
    parts = ["\n".join(head), memory(found["rows"]), time(found["rows"])]
    parts += [attention(found["attention"])] if found.get("attention") else []
    failed = [f"- {one['job']}: {one['trouble']}" for one in found["rows"] if one["trouble"]]
    return "\n\n".join([*parts, "\n".join(failed)] if failed else parts) + "\n"


def memory(rows: list[dict]) -> str:
    """Peaks of the whole job in GiB."""
    names = ["job"]
    for kind in KINDS:
        names += [f"{kind}, GiB", "instant", "error", "traced", "error"]
    body = []
    for one in rows:
        cells = [one["job"]]
        for kind in KINDS:
            cells.append(_number(one["measured_gib"][kind]))
            for way in WAYS:
                cells += [_number(one["predicted_gib"][f"{way}_{kind}"]), _percent(one["errors"][f"{way}_{kind}"])]
        body.append(cells)
    return _table(names, body)


def time(rows: list[dict]) -> str:
    """Seconds of a step and tokens a second."""
    names = ["job", "s a step", "predicted", "error", "with the probe", "error", "tokens/s"]
    body = [
        [
            one["job"],
            _number(one["measured"].get("seconds")),
            _number(one["predicted_seconds"]["known_seconds"]),
            _percent(one["errors"]["known_seconds"]),
            _number(one["predicted_seconds"]["probed_seconds"]),
            _percent(one["errors"]["probed_seconds"]),
            _whole(one["measured"].get("tokens_per_second")),
        ]
        for one in rows
    ]
    return _table(names, body)


def attention(ways: dict) -> str:
    """Milliseconds of a layer, forward and backward, by the way of attention over packed rows."""
    if "trouble" in ways:
        return f"Attention of packed rows: {ways['trouble']}"
    kernels = list(dict.fromkeys(kernel for found in ways.values() for kernel in found))
    body = [[name, *(str(found.get(kernel, "")) for kernel in kernels)] for name, found in ways.items()]
    return _table(["attention of packed rows, ms", *kernels], body)


def _table(names: list[str], body: list[list[str]]) -> str:
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def _percent(error: float | None) -> str:
    return "" if error is None else f"{100 * error:+.1f} %"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
