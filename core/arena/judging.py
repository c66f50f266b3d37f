"""A model as a judge, through an OpenAI-compatible server: it sees each pair of answers in both orders.

A judge that changes its mind with the order has not judged: its vote is "split".
"""

import re
from pathlib import Path

from core import errors, jobs, paths
from core.arena import matches, votes
from core.chat import reply_gpu
from core.synth.endpoint import Endpoint

ASK = """Two assistants answered the same message. Decide which answer helps the person more. \
The length of an answer and its place say nothing about its worth.

[Message]
{question}

[Answer 1]
{first}

[Answer 2]
{second}

Reply with one word only: 1, 2, tie, or bad if both are useless."""
WORD = re.compile(r"\b(1|2|tie|bad)\b", re.IGNORECASE)
TOKENS = 2000  # room for a judge that thinks first
MOST_UNCLEAR = 3  # prompts in a row without an opinion


def start(match_id: str, url: str, model: str) -> Path:
    """Judge the answers of a match in the background; the job lies beside the match."""
    directory = jobs.find(paths.arena(), match_id)
    Endpoint(url, model)  # raises EndpointNotAnAddress
    home = directory / "judges"
    home.mkdir(exist_ok=True)
    job = jobs.create(home, {"name": model, "judge": True, "match": match_id, "url": url, "model": model})
    jobs.start(job, "core.arena", reply_gpu.environment())
    return job


def work(directory: Path, request: dict, report) -> dict:
    """Judge every answered prompt that this judge has not judged yet."""
    endpoint = Endpoint(request["url"], request["model"])
    match_id, voter = request["match"], f"judge:{request['model']}"
    match = jobs.find(paths.arena(), match_id)
    prompts, done = jobs.request(match)["prompts"], {vote["prompt_index"] for vote in votes.of_match(match_id, voter)}
    rows, unclear = matches.answers(match), 0
    for row in rows:
        if row["prompt"] in done:
            continue
        report("progress", done=len(done), total=len(rows))
        question = prompts[row["prompt"]]["prompt"]
        texts = [row[side]["text"] for side in matches.sides(match_id, row["prompt"])]
        first, reply = opinion(endpoint, question, *texts)
        second, _ = opinion(endpoint, question, *reversed(texts))
        verdict = agreed(first, second)
        unclear = unclear + 1 if verdict is None else 0
        if unclear >= MOST_UNCLEAR:
            raise errors.named("JudgeUnclear", model=request["model"], count=unclear, said=reply[:80])
        if verdict:
            votes.cast(match_id, row["prompt"], verdict, voter, note=f"{first} / {second}")
        done.add(row["prompt"])
    report("progress", done=len(done), total=len(rows))
    return {"judged": len(done)}


def opinion(endpoint: Endpoint, question: str, first: str, second: str) -> tuple[str, str]:
    """The judge's opinion of two answers in this order, 1, 2, tie, bad or nothing, and its reply."""
    prompt = ASK.format(question=question, first=first, second=second)
    reply = endpoint.ask([{"role": "user", "content": prompt}], temperature=0, max_tokens=TOKENS)
    words = WORD.findall(re.sub(r"<think>.*?</think>", "", reply.text, flags=re.DOTALL))
    return (words[-1].lower() if words else ""), reply.text.strip() or reply.detail


def agreed(straight: str, turned: str) -> str | None:
    """The verdict of two opinions, the second one with the sides changed; None if one of them is no opinion."""
    if not straight or not turned:
        return None
    straight, turned = (
        {"1": "left", "2": "right"}.get(straight, straight),
        {"1": "right", "2": "left"}.get(turned, turned),
    )
    return straight if straight == turned else "split"
