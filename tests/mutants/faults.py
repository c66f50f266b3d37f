"""Faults that somebody could put in by mistake, a line each: (what the line says, what the fault makes of it).

A group names the file or folder and the tests of the fast suite that must notice. `tests/test_mutants.py` sees to it that every
line is still there, once. UNSEEN holds faults that the fast suite should not catch, each with the reason.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Group:
    """Faults of one file or folder, and the tests that are run for each of them, the likeliest first."""

    place: str
    tests: tuple[str, ...]
    faults: tuple[tuple[str, str], ...]

    def holds(self, root: Path, line: str) -> list[Path]:
        """The files below a root that hold a line, each as often as it does."""
        place = root / self.place
        files = sorted([*place.rglob("*.py"), *place.rglob("*.sql")]) if place.is_dir() else [place]
        return [file for file in files for _ in range(file.read_text(encoding="utf-8").count(line))]


ENCODING = Group(
    "core/training",
    ("test_encoding.py", "test_corpus_masks.py", "test_recipe_tokens.py", "test_recipe.py", "test_chat.py"),
    (
        ('    if learn == "all" or "text" in row:', '    if learn == "all":'),
        ("        learned.append(True)\n    if learn", "        learned.append(False)\n    if learn"),
        (
            "        ended = _mark_learned(learned, ids, spans, start, end, text, special) or ended",
            "        _mark_learned(learned, ids, spans, start, end, text, special)",
        ),
        (
            "            learned[at : stop + 1] = [True] * (stop + 1 - at)",
            "            learned[at:stop] = [True] * (stop - at)",
        ),
        ('    ended = last["role"] != "assistant" or last.get("weight") == 0', "    ended = False"),
        ("    while at < len(spans) and spans[at][0] < end:", "    while at < len(spans) and spans[at][1] < end:"),
        (
            "    while at < len(spans) and (spans[at][1] <= start",
            "    while at < len(spans) and (spans[at][0] <= start",
        ),
        (
            '    tokens = tokenizer(text, add_special_tokens="text" in row,',
            "    tokens = tokenizer(text, add_special_tokens=True,",
        ),
        ("    labels = [id if known else IGNORED for", "    labels = [id if known or True else IGNORED for"),
        (
            '        if message["role"] != "assistant":\n            continue',
            '        if message["role"] == "system":\n            continue',
        ),
        ("            start = at + len(prompt)", "            start = at"),
        ("        last_end = end", "        last_end = start"),
        ("    return after[len(before) :] if after.startswith(before)", "    return after if after.startswith(before)"),
        ("    low, high = 0, min(len(first), len(second))", "    low, high = 0, min(len(first), len(second)) - 1"),
        (
            "apply_template(tokenizer, messages, True), add_special_tokens=False)",
            "apply_template(tokenizer, messages, False), add_special_tokens=False)",
        ),
        ("    return ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] else ids", "    return ids"),
        (
            "    ids = {*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id}",
            "    ids = {tokenizer.eos_token_id}",
        ),
        ("if id != IGNORED][-1:]", "if id != IGNORED][:1]"),
        ('                if row["id"] not in seen:', "                if True:"),
        (
            "                row, number = json.loads(line), number + 1",
            "                row, number = json.loads(line), len(seen) + 1",
        ),
        ('    files = sorted(path.glob("rows-*.jsonl"))', '    files = list(path.glob("rows-*.jsonl"))[:1]'),
        (
            "    starts = range(0, max(1, last) if config.packing else 1, config.max_length - 1)",
            "    starts = range(0, max(1, last) if config.packing else 1, config.max_length)",
        ),
        (
            'any(label != IGNORED for label in piece["labels"][1:])',
            'any(label != IGNORED for label in piece["labels"])',
        ),
        (
            '    counted["cut"] += bool(learnable) and not config.packing and last + 1 > config.max_length',
            '    counted["cut"] += not config.packing and last + 1 > config.max_length',
        ),
        ('    counted["nothing_to_learn"] += not learnable', "    pass"),
        (
            "    return {key: encoded[key][start : start + length]",
            "    return {key: encoded[key][start : start + length - 1]",
        ),
    ),
)

PACKING = Group(
    "core/training",
    ("test_batches.py", "test_packed_masks.py", "test_recipe_tokens.py", "test_recipe.py"),
    (
        ('for label in [encoding.IGNORED, *row["labels"][1:]]]', 'for label in row["labels"]]'),
        (
            '        "position_ids": [position for row in rows for position in range(len(row["input_ids"]))],',
            '        "position_ids": list(range(sum(len(row["input_ids"]) for row in rows))),',
        ),
        ("        if at < len(room):", "        if at < len(room) - 1:"),
        ("            left, block = max_length, len(blocks)", "            left, block = max_length + 1, len(blocks)"),
        ("        bisect.insort(room, (left - need, block))", "        bisect.insort(room, (left, block))"),
        ("key=lengths.__getitem__, reverse=True):", "key=lengths.__getitem__):"),
        ('"labels": padded("labels", encoding.IGNORED)}', '"labels": padded("labels", 0)}'),
        (
            "    tails = [list(range(max(sizes) - size)) for size in sizes]",
            "    tails = [list(range(size, max(sizes))) for size in sizes]",
        ),
        (
            "    breaks = (positions.diff() != 1).nonzero()[:, 0] + 1",
            "    breaks = (positions.diff() != 1).nonzero()[:, 0]",
        ),
        (
            "        masks = (None if part.equal(torch.ones_like(part).tril()) else part for part in masks)",
            "        masks = (None for part in masks)",
        ),
        (
            "        if devices.distance(*(_after(base, before, layout) for before in BEFORE)) <= _rounding(base):",
            "        if True:",
        ),
        ("    if devices.distance(first, second) > _rounding(base):", "    if False:"),
    ),
)

TOKEN_CACHE = Group(
    "core/training",
    ("test_recipe_tokens.py", "test_recipe.py"),
    (
        (
            '            "labels": numpy.where(ids < 0, encoding.IGNORED, ids).tolist(),',
            '            "labels": numpy.where(ids < 0, ~ids, ids).tolist(),',
        ),
        (
            '            "input_ids": numpy.where(ids < 0, ~ids, ids).tolist(),',
            '            "input_ids": numpy.abs(ids).tolist(),',
        ),
        (
            "        learned = int((self.ids >= 0).sum()) if len(self) else 0",
            "        learned = int((self.ids > 0).sum()) if len(self) else 0",
        ),
        (
            "        return learned - int((self.ids[self.starts[:-1]] >= 0).sum()) if packed and len(self) else learned",
            "        return learned",
        ),
        (
            '    digest = hashlib.sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in ENCODERS))',
            "    digest = hashlib.sha256()",
        ),
        (
            '            digest.update(hashlib.file_digest(content, "sha256").digest())',
            "            digest.update(str(file).encode())",
        ),
        ("    about = [tokenizer.chat_template, tokenizer.eos_token_id,", "    about = [tokenizer.eos_token_id,"),
        (
            "    about += [config.learn, config.max_length, config.packing, config.validation_share, config.task",
            "    about += [config.learn, config.packing, config.validation_share, config.task",
        ),
        (
            "    about += [config.learn, config.max_length, config.packing, config.validation_share, config.task",
            "    about += [config.max_length, config.packing, config.validation_share, config.task",
        ),
        (
            "    about += [config.learn, config.max_length, config.packing, config.validation_share, config.task",
            "    about += [config.learn, config.max_length, config.packing, config.task",
        ),
        (
            "            unfinished.rename(place)\n    os.utime",
            "            shutil.copytree(unfinished, place)\n    os.utime",
        ),
        ("    for path in places[TOKENS_KEPT:]:", "    for path in places[:TOKENS_KEPT]:"),
        (
            '        self.starts.append(self.starts[-1] + len(piece["input_ids"]))',
            '        self.starts.append(len(piece["input_ids"]))',
        ),
        (
            "            part = parts[clusters.of(row) in held_out]",
            '            part = parts[row["id"] in held_out]',
        ),
    ),
)

SPLIT = Group(
    "core/training",
    ("test_recipe_tokens.py", "test_recipe_options.py", "test_recipe.py"),
    (
        (
            '            own = ("cluster" not in row, row.get("cluster", row["id"]), row["id"])',
            '            own = (False, row["id"], row["id"])',
        ),
        (
            '        return self._names.get(row["id"], row.get("cluster", row["id"]))',
            '        return row.get("cluster", row["id"])',
        ),
        (
            "    wanted = min(MOST_HELD_OUT, max(1, round(clusters.total() * share))) if share else 0",
            "    wanted = max(1, round(clusters.total() * share)) if share else 0",
        ),
        (
            "    wanted = min(MOST_HELD_OUT, max(1, round(clusters.total() * share))) if share else 0",
            "    wanted = min(MOST_HELD_OUT, max(1, round(len(clusters) * share))) if share else 0",
        ),
        (
            "    by_hash = sorted(clusters, key=lambda name: hashlib.sha256(str(name).encode()).hexdigest())",
            "    by_hash = sorted(clusters)",
        ),
        ("        if clusters[name] <= wanted:", "        if wanted > 0:"),
        ("            wanted -= clusters[name]", "            wanted -= 1"),
        ("    if share and not held_out and len(clusters) > 1:", "    if False:"),
        (
            "        held_out.add(min(by_hash, key=clusters.get))",
            "        held_out.add(max(by_hash, key=clusters.get))",
        ),
        ("FEWEST_ROWS = 10", "FEWEST_ROWS = 1"),
        (
            '        raise TrainingError("CorpusTooSmall", name=name, rows=about["rows"], needed=token_cache.FEWEST_ROWS)',
            "        pass",
        ),
        ('    elif config.task == "text" and chats:', "    elif False:"),
        ('    elif config.task == "chat" and rows and not chats:', "    elif False:"),
    ),
)

LOSS = Group(
    "core/training",
    ("test_recipe_memory.py", "test_batches.py", "test_packed_masks.py", "test_recipe_right.py", "test_recipe.py"),
    (
        (
            "loss=losses.sum() / (len(target) if num_items_in_batch is None else num_items_in_batch))",
            "loss=losses.sum() / len(target))",
        ),
        (
            "        return _scaled(context.saved_tensors[0], slopes), None\n",
            "        return context.saved_tensors[0], None\n",
        ),
        (
            "        return _scaled(context.saved_tensors[0], slopes), None, None\n",
            "        return context.saved_tensors[0], None, None\n",
        ),
        ("    wide.div_(mass).scatter_add_(-1, target, -right.new_ones(right.shape))", "    wide.div_(mass)"),
        ("    return (best + mass.log() - right)[:, 0]", "    return (mass.log() - right)[:, 0]"),
        ("    return (best + mass.log() - right)[:, 0]", "    return (best + mass.log())[:, 0]"),
        ("    if wide is not logits:\n        logits.copy_(wide)", "    pass"),
        (
            "        for start in range(0, len(target), rows):",
            "        for start in range(0, len(target) - rows + 1, rows):",
        ),
        (
            "    return plain.shape == real.shape and devices.distance(plain, real) < 0.01",
            "    return plain.shape == real.shape",
        ),
        (
            "    tiles = zip(hidden.split(config.LOSS_TILE), target.split(config.LOSS_TILE), strict=True)",
            "    tiles = list(zip(hidden.split(config.LOSS_TILE), target.split(config.LOSS_TILE), strict=True))[:1]",
        ),
        ("    return sum(map(operator.mul, means, counts)) / sum(counts)", "    return sum(means) / len(means)"),
        ("    model.train(was_training)\n    if stopped", "    if stopped"),
        ("    if stopped:\n        return None\n    means", "    means"),
    ),
)

SCHEDULE = Group(
    "core/training",
    ("test_batches.py", "test_recipe_options.py", "test_recipe_right.py", "test_recipe.py"),
    (
        (
            "        generator = torch.Generator().manual_seed(self.seed + self.epoch)",
            "        generator = torch.Generator().manual_seed(self.seed)",
        ),
        ("epoch: int):\n        self.epoch = epoch", "epoch: int):\n        pass"),
        (
            "    a_epoch = math.ceil(batches / config.gradient_accumulation_steps)",
            "    a_epoch = batches",
        ),
        (
            "    every = min(steps, config.eval_steps or max(1, math.ceil(steps / 10)))",
            "    every = min(steps, config.eval_steps or max(1, math.ceil(steps / 5)))",
        ),
        ("        max_steps=config.max_steps or -1,", "        max_steps=-1,"),
        ("        lr_scheduler_type=config.lr_scheduler_type,", '        lr_scheduler_type="linear",'),
        (
            "        lr_scheduler_kwargs=_schedule(config.lr_scheduler_type, steps),",
            "        lr_scheduler_kwargs=_schedule(config.lr_scheduler_type, 10 * steps),",
        ),
        (
            "        warmup_steps=int(config.warmup_ratio * steps),",
            "        warmup_steps=math.ceil(config.warmup_ratio * steps),",
        ),
        (
            '        neftune_noise_alpha=None if config.task == "preference" else config.neftune_noise_alpha or None,',
            "        neftune_noise_alpha=None,",
        ),
        (
            "        weight_decay=config.weight_decay,\n        max_grad_norm=config.max_grad_norm,",
            "        weight_decay=0.0,\n        max_grad_norm=config.max_grad_norm,",
        ),
        ("        max_grad_norm=config.max_grad_norm,", "        max_grad_norm=1.0,"),
        ("        optim=config.optim,", '        optim="adamw_torch",'),
        (
            "        gradient_accumulation_steps=config.gradient_accumulation_steps,\n        num",
            "        gradient_accumulation_steps=1,\n        num",
        ),
        ("        activation_checkpointing=config.gradient_checkpointing,", "        activation_checkpointing=False,"),
        ('        return {"min_lr_rate": 0.1}', '        return {"min_lr_rate": 0.5}'),
        ("        rate = config.learning_rate / 10", "        rate = config.learning_rate"),
        ('        group["times"] = group["lr"] / config.learning_rate', '        group["times"] = 1.0'),
        ('            group["lr"] *= rate / before', "            pass"),
        ("        if not math.isclose(rate, before):", "        if False:"),
        (
            '            more = {"loraplus_lr_ratio": config.loraplus_lr_ratio, ',
            '            more = {"loraplus_lr_ratio": 1.0, ',
        ),
    ),
)

QUANTISATION = Group(
    "core/training",
    ("test_recipe_options.py", "test_recipe_right.py", "test_recipe.py", "test_recipe_memory.py"),
    (
        ("        bnb_4bit_use_double_quant=True,", "        bnb_4bit_use_double_quant=False,"),
        ('        bnb_4bit_quant_type="nf4",', '        bnb_4bit_quant_type="fp4",'),
        ("        bnb_4bit_compute_dtype=dtype,", "        bnb_4bit_compute_dtype=torch.float16,"),
        ('    if config.method != "qlora":\n        return None\n', "    return None\n"),
        (
            '    dtype = torch.float32 if config.method == "full" else devices.DTYPES[kind]',
            "    dtype = devices.DTYPES[kind]",
        ),
        ("            module.support_avx512bf16_for_cpu = False", "            pass"),
        ("        lora_alpha=config.lora_alpha,", "        lora_alpha=config.lora_rank,"),
        ("        lora_dropout=0.0 if experts else config.lora_dropout,", "        lora_dropout=0.0,"),
        ("        use_rslora=config.use_rslora,", "        use_rslora=False,"),
        ("        use_dora=config.use_dora,", "        use_dora=False,"),
        ("        ensure_weight_tying=len(whole) == 1,", "        ensure_weight_tying=False,"),
        ("            weight.data = weight.data.to(torch.float32)", "            pass"),
        (
            "    return [names[id(embeddings)]] if tied else [names[id(embeddings)], names[id(head)]]",
            "    return [names[id(embeddings)], names[id(head)]]",
        ),
        ("    base.generation_config.eos_token_id = encoding.stop_ids(base, tokenizer) or None", "    pass"),
        (
            '        more = {"path_initial_model_for_weight_conversion": self.start.name} if self.start else {}',
            "        more = {}",
        ),
    ),
)

CHECKPOINTS = Group(
    "core/training",
    ("test_checkpoints.py", "test_training_loop.py", "test_recipe_right.py", "test_recipe.py"),
    (
        (
            "    finite = [(loss, step) for step, loss in evals if math.isfinite(loss)]",
            "    finite = [(-loss, step) for step, loss in evals if math.isfinite(loss)]",
        ),
        (
            "    finite = [(loss, step) for step, loss in evals if math.isfinite(loss)]",
            "    finite = [(loss, -step) for step, loss in evals if math.isfinite(loss)]",
        ),
        ("    for step in sorted(whole)[:-newest]:", "    for step in sorted(whole)[:-1]:"),
        ("        if step != best:", "        if True:"),
        (
            '    return dict(sorted((int(path.name.split("-")[1]), path) for path in found))',
            '    return {int(path.name.split("-")[1]): path for path in sorted(found)}',
        ),
        (
            "    return next((str(path) for path in newest_first if is_whole(path)), None)",
            "    return next((str(path) for path in newest_first), None)",
        ),
        (
            "        return all(_digest(checkpoint / name) == digest for name, digest in files.items())",
            "        return all((checkpoint / name).exists() for name, digest in files.items())",
        ),
        (
            '        return f"{size} {hashlib.sha256(head + file.read()).hexdigest()}"',
            '        return f"{size} {hashlib.sha256(head).hexdigest()}"',
        ),
        (
            "        if not is_whole(path):\n            shutil.rmtree(path)",
            "        if False:\n            shutil.rmtree(path)",
        ),
        (
            "        if self.config.early_stopping and len(since) >= self.config.early_stopping:",
            "        if self.config.early_stopping and len(since) > self.config.early_stopping:",
        ),
        (
            "        since = [known for known, _ in self.evals if best is not None and known > best]",
            "        since = [known for known, _ in self.evals if best is not None and known >= best]",
        ),
        (
            "        self.eval_loss, self.evaluated_at, self.kept_step = dict(self.evals)[best], best, best",
            "        self.evaluated_at, self.kept_step = best, best",
        ),
        (
            "            self.control.should_training_stop = True\n            return {}",
            "            return {}",
        ),
        (
            "    progress.tokenizer, progress.evals = tokenizer, checkpoints.evals_of(resume_from)",
            "    progress.tokenizer, progress.evals = tokenizer, []",
        ),
        ("    if held_out and not resume_from:", "    if held_out:"),
        (
            '            self.stopped = "pause" if request == "pause" else "stop"\n            control.should_training_stop',
            '            self.stopped = "stop"\n            control.should_training_stop',
        ),
        ('    if progress.stopped != "pause" and trainer.state.global_step:', "    if trainer.state.global_step:"),
    ),
)

DUPLICATES = Group(
    "core/corpus/duplicates.py",
    ("test_corpus_quality.py", "test_corpus.py", "test_corpus_cases.py"),
    (
        ("THRESHOLD = 0.7", "THRESHOLD = 0.85"),
        ("THRESHOLD = 0.7", "THRESHOLD = 0.5"),
        ("PERMUTATIONS, BANDS = 128, 16", "PERMUTATIONS, BANDS = 128, 4"),
        ("SHINGLE = 5", "SHINGLE = 2"),
        (
            "    kind = np.where(first_whole != number, 1, np.where(first_plain != number, 2, 0))",
            "    kind = np.where(first_whole != number, 1, 0)",
        ),
        (
            "    kind = np.where(first_whole != number, 1, np.where(first_plain != number, 2, 0))",
            "    kind = np.where(first_plain != number, 2, 0)",
        ),
        (
            "    first = first_plain.astype(np.int32)",
            "    first = first_whole.astype(np.int32)",
        ),
        ("                plain.extend(_digest(normal or text.whole)", "                plain.extend(_digest(normal)"),
        ("    rows[np.diff(ends) == 0] = 0", "    pass"),
        (
            "        numbers = np.flatnonzero((copies.kind == 0) & ~empty)",
            "        numbers = np.flatnonzero(copies.kind == 0)",
        ),
        (
            "                parent[max(first, second)] = min(first, second)",
            "                parent[min(first, second)] = max(first, second)",
        ),
        ("    copies.first[:] = first[copies.first]", "    copies.first[:] = first"),
        ("    copies.similarity[moved] = similarity[copies.first[moved]]", "    pass"),
        (
            "        alike = (self.whole[here] == self.whole[other]).mean(axis=1)",
            "        alike = (self.whole[here] == self.whole[other]).any(axis=1)",
        ),
        (
            "    kind = np.where(first_whole != number, 1, np.where(first_plain != number, 2, 0))",
            "    kind = np.where(first_plain != number, 1, np.where(first_whole != number, 2, 0))",
        ),
        (
            '    asked = [turn["content"] for turn in row["messages"] if turn["role"] not in ("system", "assistant")]',
            '    asked = [turn["content"] for turn in row["messages"] if turn["role"] != "assistant"]',
        ),
    ),
)

SHARING = Group(
    "core/sharing/sharing.py",
    ("test_share.py", "test_share_files.py"),
    (
        (
            "            if len(self.visitors) >= self.limits.visitors:\n                raise",
            "            if False:\n                raise",
        ),
        (
            "            if len(self.visitors) >= self.limits.visitors:\n                raise",
            "            if len(self.visitors) > self.limits.visitors:\n                raise",
        ),
        (
            "            if not hmac.compare_digest(_plain(password), _plain(self.password)):",
            "            if not _plain(self.password).startswith(_plain(password)):",
        ),
        ("        return self._ended.is_set() or time.time() >= self.ends", "        return self._ended.is_set()"),
        ("TRIES_OF_ONE, TRIES_OF_ALL = 5, 60", "TRIES_OF_ONE, TRIES_OF_ALL = 500, 60"),
        ("TRIES_OF_ONE, TRIES_OF_ALL = 5, 60", "TRIES_OF_ONE, TRIES_OF_ALL = 5, 6000"),
        ("            while tries and now - tries[0] > MINUTE:", "            while tries:"),
        ("        if letters > limits.letters:", "        if False:"),
        ("            if any(turn.visitor is visitor for turn in self._queue):", "            if False:"),
        (
            "            if visitor.messages >= limits.messages or visitor.tokens >= limits.tokens:",
            "            if visitor.messages >= limits.messages:",
        ),
        (
            "            if self.messages >= limits.messages_in_all or self.tokens >= limits.tokens_in_all:",
            "            if False:",
        ),
        ("            visitor.messages += 1", "            pass"),
        ("turn.visitor.tokens = before + sum(", "turn.visitor.tokens = sum("),
        (
            "        visitor = None if self.ended or not token else self.visitors.get(token)",
            "        visitor = self.visitors.get(token)",
        ),
        (
            "                if turn.stopped.is_set() or self.ended:\n                    return",
            "                if False:\n                    return",
        ),
        ('    while end and end[0]["role"] != "user":', "    while False:"),
        ('    return "".join(password.lower().split()).replace("-", "").encode()', "    return password.encode()"),
    ),
)

GATE = Group(
    "core/sharing/gate.py",
    ("test_share.py", "test_share_files.py"),
    (
        (
            "        if (visitor := self.share.visitor(token_of(request))) is None:",
            "        if (visitor := self.share.visitor(token_of(request))) is False:",
        ),
        (
            "        if self.share.ended:\n            return _html(410",
            "        if False:\n            return _html(410",
        ),
        ("or raw_path != path.encode():", "or False:"),
        (
            "        if not isinstance(data, list) or not all(value is None or isinstance(value, str) for value in data):",
            "        if not isinstance(data, list):",
        ),
        (
            '        if not isinstance(message, dict) or message.get("event_data") is not None:',
            "        if not isinstance(message, dict):",
        ),
        (
            "        if any(session in other.sessions for other in self.share.visitors.values() if other is not visitor):",
            "        if False:",
        ),
        (
            '        if "session_hash" in message:\n            self._own(visitor, message["session_hash"])',
            "        pass",
        ),
        ('httponly=True, samesite="lax"', 'samesite="lax"'),
        ("        if not is_own(request):", "        if False:"),
    ),
)

STORE = Group(
    "core/runs/store.py",
    (
        "test_store.py",
        "test_runs.py",
        "test_runs_watching.py",
        "test_runs_page.py",
        "test_upgrades.py",
        "test_runs_hurt.py",
        "test_arena.py",
    ),
    (
        (
            '                runs_curves.go_back(db, run_id, changed, int(resumed.split("-")[1]) if resumed else 0)',
            "                pass",
        ),
        (
            '    changed = dict(row, state=state, events_offset=offset, name=label["name"], note=label["note"])',
            '    changed = dict(row, state=state, events_offset=0, name=label["name"], note=label["note"])',
        ),
        (
            '    changed["files_fingerprint"] = None if more or damaged or state in runs.ACTIVE else fingerprint',
            '    changed["files_fingerprint"] = fingerprint',
        ),
        (
            "            if run_id not in present:\n                _forget(db, run_id)",
            "            if False:\n                _forget(db, run_id)",
        ),
        (
            '    if step == 0:\n        row["base_eval_loss"]',
            '    if step == 1:\n        row["base_eval_loss"]',
        ),
        (
            '(row["best_eval_loss"] or float("inf")) > eval_loss:',
            '(row["best_eval_loss"] or float("inf")) < eval_loss:',
        ),
        (
            '        "error": None,\n        "error_values": None,\n        "error_message": None,\n',
            "",
        ),
        ('{"stage": None, "seconds_left": None, "disk_shortage": None}', '{"stage": None, "disk_shortage": None}'),
        ('"checkpoint": {"step": "checkpoint_step"}', '"checkpoint": {"bytes": "checkpoint_step"}'),
        ("    **dict.fromkeys(events.FINAL, _ENDED),", "    **dict.fromkeys(events.FINAL, {}),"),
        ("where voter = 'person' and verdict in ('a', 'b') and", "where voter = 'person' and verdict <> 'bad' and"),
        (
            '            counts[0] += row["votes"] * (row["verdict"] == ours)',
            '            counts[0] += row["votes"] * (row["verdict"] == "a")',
        ),
    ),
)

MIGRATIONS = Group(
    "core/runs/migrations",
    ("test_upgrades.py", "test_store.py"),
    (
        ('UPDATE runs SET "offset" = 0;', ""),
        (
            "    run_id TEXT REFERENCES runs (id) ON DELETE CASCADE,  -- the run\n    bucket",
            "    run_id TEXT,  -- the run\n    bucket",
        ),
        (
            "    seconds, event_at, trouble, trouble_values, message,",
            "    seconds, event_at, trouble, message, message,",
        ),
        (
            'voter, topic, question, system, a, b, text_a, text_b, "left"',
            'voter, topic, question, system, b, a, text_a, text_b, "left"',
        ),
    ),
)

SERIES = Group(
    "core/runs/curves.py",
    ("test_store.py", "test_runs_watching.py", "test_runs.py"),
    (
        (
            '        db.conn.execute(f"delete from {table} where run_id = ? and step > ?", [run_id, step])',
            '        db.conn.execute(f"delete from {table} where run_id = ? and step >= ?", [run_id, step])',
        ),
        ("            total, count = total + total_before, count + count_before", "            pass"),
        (
            "            min(members, key=lambda step: (math.inf if step[1] is None else step[1], step[0])),",
            "            members[0],",
        ),
        (
            "            max(members, key=lambda step: (-math.inf if step[2] is None else step[2], -step[0])),",
            "            members[0],",
        ),
        ("            max(members, key=lambda step: step[0]),", "            members[0],"),
    ),
)

EVENTS = Group(
    "core/events.py",
    ("test_events.py", "test_runs.py"),
    (
        ('    whole = fresh[: fresh.rfind(b"\\n") + 1]', "    whole = fresh"),
        ("    return _parsed(whole), offset + len(whole)", "    return _parsed(whole), offset + len(fresh)"),
        (
            "    if isinstance(value, float) and not math.isfinite(value):\n        return None",
            "    if False:\n        return None",
        ),
    ),
)

FILES = Group(
    "core/files.py",
    ("test_events.py", "test_files.py", "test_jobs.py"),
    (
        ("        _rename(scratch, path)\n    except", "        pass\n    except"),
        ("        scratch.touch(mode)", "        pass"),
        ("        scratch.unlink(missing_ok=True)", "        pass"),
        ("            target.rmdir()", "            shutil.rmtree(target)"),
        ("    shutil.rmtree(unfinished, ignore_errors=True)\n    unfinished.mkdir", "    unfinished.mkdir"),
        ("                file.truncate(start + newline + 1)", "                pass"),
        ("        file.truncate(0)", "        pass"),
        ("            end = start\n        file", "            break\n        file"),
        ("            for line in reversed(lines):", "            for line in lines:"),
        ("            rest = first", '            rest = b""'),
        ('f"{path.stem}.{secrets.token_hex(4)}.tmp"', 'f"{path.stem}.tmp"'),
    ),
)

JOBS = Group(
    "core/jobs.py",
    ("test_runs.py", "test_runs_hurt.py", "test_runs_page.py"),
    (
        ('    return "running" if is_alive(directory) else "lost"', '    return "lost"'),
        ("    if waiting := waits(directory):", '    if waiting := "":'),
        ('        return "stopped" if control.get("request") == "stop" else "queued"', '        return "queued"'),
        ("        if request not in ENDS:\n            raise", "        raise"),
        (
            '        control = {"after": -1, "asked": round((directory / "control.json").stat().st_mtime, 3)} | control',
            "        pass",
        ),
    ),
)

RUNS = Group(
    "core/runs/runs.py",
    ("test_runs.py", "test_runs_hurt.py", "test_runs_page.py"),
    (
        (
            '    if now == "finished":\n        raise errors.named("NothingToResume"',
            '    if False:\n        raise errors.named("NothingToResume"',
        ),
        (
            '    if jobs.is_alive(path):\n        raise StillRunning(name=label(run_id)["name"], state=state(run_id))\n    jobs',
            "    jobs",
        ),
        (
            '    jobs.ask(directory(run_id), "hold" if now == "queued" else "pause")',
            '    jobs.ask(directory(run_id), "pause")',
        ),
        (
            "        if state(run_id) in ACTIVE and _config_if_readable(run_id) == config:",
            "        if False:",
        ),
    ),
)

ESTIMATE = Group(
    "core/estimate/memory.py",
    ("test_estimate_memory.py", "test_estimate.py", "test_estimate_trace.py"),
    (
        (
            "NF4 = {False: 0.5 + 4 / 64, True: 0.5 + 1 / 64 + 4 / (64 * 256)}",
            "NF4 = {False: 0.5 + 4 / 64, True: 0.5 + 4 / 64}",
        ),
        (
            '        extra += setup_walk.saved if phase in ("forward", "loss") else 0',
            '        extra += setup_walk.saved if phase in ("forward",) else 0',
        ),
        (
            '        extra += setup_walk.kept if phase in ("loss_backward", "backward_first") else 0',
            "        extra += 0",
        ),
        ('    lifted["optimizer"] = gradients * (2 if setup.foreach else 1)', '    lifted["optimizer"] = gradients'),
        ("    context = 0 if not capability else CONTEXT if capability >= 8.0 else CONTEXT_OLD", "    context = 0"),
        (
            "    return (shape.embedding if shape.tied else 2 * shape.embedding) if setup.saves else 0",
            "    return 2 * shape.embedding if setup.saves else 0",
        ),
        (
            "    expert = packed if setup.packed_experts else setup.weight_width",
            "    expert = packed",
        ),
        (
            "        states = shape.parameters * _state(setup, setup.weight_width)",
            "        states = shape.parameters * _state(setup, 2)",
        ),
        ("        gradients = adapter\n", "        gradients = 0.0\n"),
        ("    phase = max(lifted, key=lifted.get)", "    phase = min(lifted, key=lifted.get)"),
    ),
)

SPEED = Group(
    "core/estimate/speed.py",
    ("test_estimate_verdict.py", "test_estimate.py"),
    (
        (
            "(a + (number - 1) * b for a, b in zip((device, launch, flops), of_layer, strict=True))",
            "(a + number * b for a, b in zip((device, launch, flops), of_layer, strict=True))",
        ),
        ("    seconds = steps * micro + optimizer", "    seconds = micro + optimizer"),
        (
            "    return Pace(seconds, steps * setup.tokens / seconds, flops",
            "    return Pace(seconds, setup.tokens / seconds, flops",
        ),
        ("            in_single = width == 4 or slow_bf16", "            in_single = False"),
        (
            "    optimizer = _passes(setup) * _trained_bytes(shape, setup) / (COPY * card.bandwidth)",
            "    optimizer = 0.0",
        ),
        ("        device += seconds\n", "        device += flops and seconds\n"),
    ),
)

VERDICT = Group(
    "core/estimate/answer.py",
    ("test_estimate_verdict.py", "test_estimate.py", "test_estimate_page.py", "test_runs_watching.py"),
    (
        (
            "    if memory.allocated * correction + memory.context <= budget:",
            "    if memory.process <= budget:",
        ),
        ('    return "tight" if correction > 1 and', '    return "tight" if False and'),
        ("        return self.process + (UPPER - 1) * self.memory.reserved", "        return self.process"),
        ("        return self.epoch_seconds * self.epochs", "        return self.epoch_seconds"),
        (
            "        return self.tokens / self.pace.tokens_per_second * self.correction.seconds",
            "        return self.tokens / self.pace.tokens_per_second",
        ),
        ("        budget=card.memory_bytes if free is None else free,", "        budget=card.memory_bytes,"),
        (
            "        return self.memory.reserved * self.correction.memory + self.memory.context",
            "        return self.memory.reserved + self.memory.context",
        ),
        ("        setup = replace(setup, weight_width=4)", "        pass"),
        ('        "fits": answer.verdict != "no",', '        "fits": answer.verdict == "fits",'),
        (
            "    if memory.reserved * (correction + UPPER - 1) + memory.context <= budget:",
            "    if memory.reserved * correction + memory.context <= budget:",
        ),
    ),
)

ADVICE = Group(
    "core/estimate/advice.py",
    ("test_estimate_verdict.py", "test_estimate.py", "test_runs_watching.py"),
    (
        (
            "        more = setup.gradient_accumulation_steps * setup.batch_size // half",
            "        more = setup.gradient_accumulation_steps",
        ),
        (
            '    return sorted(options, key=lambda c: (c.verdict == "no", c.harm, c.slower, -c.saves))',
            "    return sorted(options, key=lambda c: -c.saves)",
        ),
        ("known.parameters >= below", "False"),
        ("            del kinds[name]", "            pass"),
        (
            "        low, high = (middle, high) if ok(middle) else (low, middle)",
            "        low, high = (middle, high) if not ok(middle) else (low, middle)",
        ),
    ),
)

LEARNED = Group(
    "core/estimate/calibration.py",
    ("test_estimate_verdict.py", "test_estimate.py", "test_runs_watching.py"),
    (
        ("LEAST, MOST = 0.2, 5.0", "LEAST, MOST = 0.0, 5000.0"),
        ("!= (card, attention, method):", "[:2] != (card, attention):"),
        ("    bound = weight * math.log(FAR)", "    bound = math.inf"),
        (" * min(1.0, weight))", ")"),
        ("    return measured / predicted if", "    return predicted / measured if"),
    ),
)

ARENA = Group(
    "core/arena/verdict.py",
    ("test_arena.py",),
    (
        ("    1 / 0.05\n", "    1 / 0.5\n"),
        ("math.lgamma(losses + 1) - math.lgamma(count + 2)", "math.lgamma(losses + 1)"),
        ('    wins, losses = counts["b"], counts["a"]', '    wins, losses = counts["a"], counts["b"]'),
        (
            '        "rate": wins / (wins + losses) if wins + losses else None,',
            '        "rate": wins / len(votes) if votes else None,',
        ),
        ("    if count and (low > 0.5 or high < 0.5):", "    if count and low > 0.5:"),
        (
            "            return math.ceil((needed - count) * (count + others) / count)",
            "            return needed - count",
        ),
        (
            '            longer += vote["verdict"] == ("a" if a > b else "b")',
            '            longer += vote["verdict"] == "a"',
        ),
        (
            '    return {"longer": longer, "count": count, "warns": low > 0.5}',
            '    return {"longer": longer, "count": count, "warns": longer > count / 2}',
        ),
    ),
)

VOTES = Group(
    "core/arena/votes.py",
    ("test_arena.py",),
    (
        (
            '    winner = {"left": left, "right": right}.get(verdict, verdict)',
            '    winner = {"left": "a", "right": "b"}.get(verdict, verdict)',
        ),
        (
            '    return "equal_pair" if vote["text_a"] == vote["text_b"] else ""',
            '    return ""',
        ),
        (
            'if row["verdict"] == "a" else (row["text_b"], row["text_a"])',
            'if row["verdict"] == "b" else (row["text_b"], row["text_a"])',
        ),
        (
            '        db["votes"].upsert(vote, pk=database.VOTE)',
            '        db["votes"].insert(vote, ignore=True, pk=database.VOTE)',
        ),
        ('    system = [{"role": "system", "content": row["system"]}] if row["system"] else []', "    system = []"),
    ),
)

QUEUE = Group(
    "core/runs/queue.py",
    ("test_runs.py", "test_runs_page.py", "test_runs_hurt.py"),
    (
        ('    return [run_id for run_id in waiting() if runs.state(run_id) == "queued"]', "    return waiting()"),
        (
            "        order.insert(max(0, at + places), order.pop(at))",
            "        order.insert(max(0, at - places), order.pop(at))",
        ),
        (
            '            if before_boot and last.get("starts", 0) < MOST_STARTS and',
            "            if before_boot and",
        ),
        (
            "    return sorted(created, key=lambda run_id: (known.get(run_id, len(known)), created[run_id]))",
            "    return sorted(created, key=lambda run_id: created[run_id])",
        ),
    ),
)


OWN_PAGE = Group(
    "core/sharing/own_page.py",
    ("test_walls.py", "test_app.py"),
    (
        ('        if not LOCAL.fullmatch(request.headers.get("host", "")):', "        if False:"),
        ("        if not is_own(request):", "        if False:"),
    ),
)

WALLS = Group(
    "core/sharing/walls.py",
    ("test_walls.py", "test_share.py"),
    (
        (
            '    return site == "none" and (origin is None or',
            '    return site == "none" or (origin is None or',
        ),
        (
            "                if len(body) > most:\n                    raise Refused(413)",
            "                if False:\n                    raise Refused(413)",
        ),
        ('    "x-frame-options": "DENY",\n', ""),
    ),
)

DATABASE = Group(
    "core/runs/database.py",
    ("test_store.py", "test_upgrades.py"),
    (('        connection.execute("pragma foreign_keys=on")', "        pass"),),
)


GROUPS = (
    *(
        ENCODING,
        PACKING,
        TOKEN_CACHE,
        SPLIT,
        LOSS,
        SCHEDULE,
        QUANTISATION,
        CHECKPOINTS,
        DUPLICATES,
        SHARING,
        GATE,
        OWN_PAGE,
        WALLS,
        DATABASE,
        STORE,
        MIGRATIONS,
    ),
    *(SERIES, EVENTS, FILES, JOBS, RUNS, QUEUE, ESTIMATE, SPEED, VERDICT, ADVICE, LEARNED, ARENA, VOTES),
)

# Faults that no fast test should be asked to notice, each with the reason.
UNSEEN: dict[tuple[str, str], str] = {}
