"""To the hub and from it: push an export with its card, import an adapter that somebody published.

Run it: `python -m core.export.hub push EXPORT owner/name`, `python -m core.export.hub import owner/name`; the hub's own
token (HF_TOKEN) is taken. The page's token travels in a variable of the job's process and is kept nowhere.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from core import errors, files, jobs, paths
from core.chat import imported
from core.errors import UserError
from core.models import adapter_check, base_identity, models

TOKEN = "SOULSMITH_HUB_TOKEN"
LOOK_SECONDS = 0.3
OTHER_WEIGHTS = "The adapter was trained on other weights of {base} than those here: its replies may differ."
PUSHED = ("adapter", "merged", "gguf")


def push(export_id: str, repo: str, token: str = "", *, private: bool = True) -> Path:
    """Begin to push an export in the background and return the job's directory; the token is kept nowhere.

    Raises:
        NotAHubId, NothingToPush, JobGone.
    """
    directory = jobs.find(paths.exports(), export_id)
    request = jobs.request(directory)
    if request["kind"] not in PUSHED or jobs.state(directory) != "finished":
        raise errors.named("NothingToPush")
    return _start({"name": request["name"], "do": "push", "export": export_id, "private": private}, repo, token)


def fetch(repo: str, token: str = "", base: str = "") -> Path:
    """Begin to import an adapter in the background and return the job's directory.

    Raises:
        NotAHubId.
    """
    return _start({"name": repo, "do": "import", "base": base}, repo, token)


def _start(request: dict, repo: str, token: str) -> Path:
    repo = repo.strip()
    if not models.is_hub_id(repo):
        raise errors.named("NotAHubId", name=repo or '""')
    directory = jobs.create(paths.hub(), request | {"repo": repo})
    jobs.start(directory, "core.export.hub", {TOKEN: token.strip()} if token.strip() else {})
    return directory


def work(directory: Path, request: dict, report: Callable) -> dict:
    """The work of a job's own process; to stop ends the process, whatever it is sending."""
    token, found = os.environ.pop(TOKEN, None), {}
    report("progress", stage="hub", done=0, total=0)

    def run() -> None:
        try:
            found["made"] = _push(request, token) if request["do"] == "push" else _import(request, token)
        except Exception as error:
            found["error"] = _worded(error, request, token)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        jobs.end_if_requested(directory)
        thread.join(LOOK_SECONDS)
    if "error" in found:
        raise found["error"]
    return found["made"]


def _push(request: dict, token: str | None) -> dict:
    from huggingface_hub import HfApi  # noqa: PLC0415 - the page opens without the hub

    made = jobs.progress(jobs.find(paths.exports(), request["export"]))["finished"]
    api = HfApi(token=token)
    api.create_repo(request["repo"], private=request["private"], exist_ok=True)
    if request["private"] and not api.repo_info(request["repo"]).private:  # one that was there stays as it was
        raise errors.named("HubRepoPublic", name=request["repo"])
    done = api.upload_folder(
        repo_id=request["repo"],
        folder_path=made["path"],
        commit_message="Upload from Soulsmith",
        ignore_patterns=["soulsmith.json"],  # where it came from on this machine
    )
    return {"repo": request["repo"], "url": str(done.commit_url)}


def _import(request: dict, token: str | None) -> dict:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - the page opens without the hub

    name = request["repo"]
    source = Path(snapshot_download(name, allow_patterns=imported.ADAPTER_FILES, token=token))
    values = files.read_json(source / "adapter_config.json")
    lacks = {
        "adapter_config.json": bool(values),
        "adapter_model.safetensors": (source / "adapter_model.safetensors").is_file(),
        "LoRA": values.get("peft_type") == "LORA",
    }
    if missing := [what for what, there in lacks.items() if not there]:
        raise errors.named("AdapterUnfit", name=name, lacks=", ".join(missing))
    base = request.get("base") or base_identity.name_here(values.get("base_model_name_or_path") or "", source)
    if not base or not (models.is_hub_id(base) or models.local(base) or base == models.STARTER):
        raise errors.named("AdapterBaseUnknown", name=name, base=values.get("base_model_name_or_path"))
    adapter_check.ask(source)
    card = {"id": name, "title": name.rpartition("/")[2], "base_model": base, "revision": source.name}
    target = imported.write(source, card | {"created": time.time()})
    made = {"repo": name, "adapter": target.name, "base_model": base}
    return made | {"other_weights": base_identity.other_weights(base, source) is not None}


def _worded(error: Exception, request: dict, token: str | None) -> Exception:
    """An error of the hub as a sentence, in which the token is not.

    Of what is not there the hub says 401 to everybody who might not be allowed to see it.
    """
    repo = request["repo"]
    if isinstance(error, UserError):
        return error
    status = getattr(getattr(error, "response", None), "status_code", None)
    if request["do"] == "import" and status in (401, 403, 404):
        return errors.named("AdapterNotThere", name=repo)
    if status in (401, 403):
        return errors.named("HubTokenRefused", name=repo)
    reason = errors.first_line(error)
    return errors.named("HubFailed", name=repo, reason=reason.replace(token, "…") if token else reason)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.export.hub", description=__doc__.split("\n")[0])
    parser.add_argument("command", nargs="?", choices=["push", "import"])
    parser.add_argument("names", nargs="*", metavar="NAME", help="an export and owner/name, or owner/name alone")
    parser.add_argument("--base", default="", help="the base of an adapter that names none")
    parser.add_argument("--public", action="store_true", help="push where everybody sees it; default: private")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if args.job:
        jobs.main(parser, args.job, work)
    if len(args.names) != {"push": 2, "import": 1}.get(args.command):
        parser.error("push takes an export and owner/name, import takes owner/name")
    try:
        begun = (
            push(*args.names, private=not args.public) if args.command == "push" else fetch(*args.names, "", args.base)
        )
        *_, last = jobs.follow(begun)
    except UserError as error:
        sys.exit(errors.tell(error, args.json))
    if last["event"] != "finished":
        sys.exit(errors.tell(errors.from_dict(last), args.json) if "trouble" in last else last["event"])
    print(json.dumps(last, ensure_ascii=False) if args.json else last.get("url") or f"adapter:{last['adapter']}")
    if last.get("other_weights") and not args.json:
        print(OTHER_WEIGHTS.format(base=last["base_model"]), file=sys.stderr)


if __name__ == "__main__":
    main()
