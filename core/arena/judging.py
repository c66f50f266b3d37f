"""A model as a judge, through an OpenAI-compatible server: each prompt is shown in both orders, and a judge that changes
its mind with the order has not judged ("split")."""

import re
from pathlib import Path

from core import jobs
from core.arena import matches, votes
from core.errors import UserError
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


class JudgeUnclear(UserError):
    template = "{model} did not say 1, 2, tie or bad {count} times in a row, but: {said}. Choose another judge."


def start(match_id: str, url: str, model: str) -> Path:
    """Judge the answers of a match in the background; the job lies beside the match."""
    directory = matches.find(match_id)
    Endpoint(url, model)  # raises where the address is none
    home = directory / "judges"
    home.mkdir(exist_ok=True)
    job = jobs.create(home, {"name": model, "judge": True, "match": match_id, "url": url, "model": model})
    jobs.start(job, "core.arena")
    return job


def work(directory: Path, request: dict, report) -> dict:
    """Judge every answered prompt that this judge has not judged yet."""
    endpoint = Endpoint(request["url"], request["model"])
    match_id, voter = request["match"], f"judge:{request['model']}"
    match = matches.find(match_id)
    asked, done = jobs.request(match), {vote["prompt_index"] for vote in votes.of_match(match_id, voter)}
    rows, unclear = matches.answers(match), 0
    for row in rows:
        if row["prompt"] in done:
            continue
        report("progress", done=len(done), total=len(rows))
        question, left = asked["prompts"][row["prompt"]]["prompt"], matches.left(match_id, row["prompt"])
        sides = [row[left]["text"], row["ba"["ab".index(left)]]["text"]]
        orders, said = zip(*[opinion(endpoint, question, *texts) for texts in (sides, sides[::-1])], strict=True)
        verdict = agreed(*orders)
        unclear = unclear + 1 if verdict is None else 0
        if unclear >= 3:
            raise JudgeUnclear(model=request["model"], count=unclear, said=said[0][:80])
        if verdict:
            votes.cast(match_id, row["prompt"], verdict, voter, note=" / ".join(orders))
        done.add(row["prompt"])
    report("progress", done=len(done), total=len(rows))
    return {"judged": len(done)}


def opinion(endpoint: Endpoint, question: str, first: str, second: str) -> tuple[str, str]:
    """What the judge says about two answers in this order: 1, 2, tie, bad or nothing; and its words."""
    prompt = ASK.format(question=question, first=first, second=second)
    reply = endpoint.ask([{"role": "user", "content": prompt}], temperature=0, max_tokens=TOKENS)
    words = WORD.findall(re.sub(r"<think>.*?</think>", "", reply.text, flags=re.DOTALL))
    return (words[-1].lower() if words else ""), reply.text.strip() or reply.detail


def agreed(straight: str, turned: str) -> str | None:
    """The verdict of two opinions, the second one with the sides changed; None if one of them is no opinion."""
    if not straight or not turned:
        return None
    back = {"1": "2", "2": "1"}.get(turned, turned)
    if straight != back:
        return "split"
    return {"1": "left", "2": "right"}.get(straight, straight)
