"""Prompt profiles: a system prompt and examples put before every chat; no weight changes, and it chats like an adapter.

Run it: `python -m core.chat.profiles list`, `show NAME`, `delete NAME`. A profile is a JSON file in the data directory.
"""

import argparse
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core import damage, errors, files, jobs, paths
from core.errors import UserError
from core.models import models
from core.training import encoding
from core.training.config import TrainConfig
from core.training.errors import TemplateRefused

MOST_EXAMPLES = 50


@dataclass(frozen=True)
class Profile:
    """The messages put before a chat."""

    name: str
    base_model: str = models.STARTER  # a name that models.prepare understands
    system_prompt: str = ""
    examples: tuple[tuple[str, str], ...] = ()  # (question, reply)

    def __post_init__(self):
        if not self.name.strip():
            raise errors.named("ProfileNameless")
        if not self.system_prompt.strip() and not self.examples:
            raise errors.named("ProfileEmpty")
        if len(self.examples) > MOST_EXAMPLES:
            raise errors.named("TooManyExamples", count=len(self.examples), most=MOST_EXAMPLES)
        for number, (question, reply) in enumerate(self.examples, 1):
            if not question.strip() or not reply.strip():
                raise errors.named("ExampleOneSided", number=number)

    @property
    def id(self) -> str:
        """The name of the profile's file."""
        return paths.slug(self.name)


def messages(profile: Profile, chat: list[dict]) -> list[dict]:
    """A chat as the model gets it: the profile's system prompt and examples first.

    A system prompt of the chat's own comes after the profile's, in one message: templates know one system message.
    """
    system = [profile.system_prompt.strip()] if profile.system_prompt.strip() else []
    if chat and chat[0]["role"] == "system":
        system, chat = [*system, chat[0]["content"]], chat[1:]
    before = [{"role": "system", "content": "\n\n".join(system)}] if system else []
    for question, reply in profile.examples:
        before += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    return [*before, *chat]


def row_behind(profile: Profile, row: dict) -> dict:
    """A chat of a corpus behind a profile, to measure its replies: those of the examples are read and not learned."""
    turns = messages(profile, row["messages"])
    start = int(turns[0]["role"] == "system")
    examples = range(start, start + 2 * len(profile.examples))
    shown = [
        turn | {"weight": 0} if at in examples and turn["role"] == "assistant" else turn
        for at, turn in enumerate(turns)
    ]
    return row | {"messages": shown}


def encode_row(profile: Profile, row: dict, tokenizer, config: TrainConfig, limit: int) -> list[dict]:
    """The pieces of a chat behind a profile, of which the same tokens are learned as without it.

    max_length cuts the row where it would cut it alone; no piece is longer than `limit`. A chat that the template
    refuses behind the profile has none.
    """
    try:
        length = min(limit, config.max_length + tokens_before(profile, row, tokenizer))
    except TemplateRefused:
        return []
    behind = row_behind(profile, row)
    return encoding.encode_pieces(behind, tokenizer, replace(config, max_length=length), Counter())


def tokens_before(profile: Profile, row: dict, tokenizer) -> int:
    """How many tokens more a chat has behind a profile; fewer than 0 where a template has a longer prompt of its own.

    Raises:
        TemplateRefused.
    """
    behind, alone = (encoding.encode(one, tokenizer)["input_ids"] for one in (row_behind(profile, row), row))
    return len(behind) - len(alone)


def save(profile: Profile) -> str:
    """Write a profile, over one of the same name, and return its id."""
    path = _file(profile.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, asdict(profile))
    return profile.id


def load(profile_id: str) -> Profile:
    """The profile of an id."""
    if not _file(profile_id).exists():
        raise errors.named("ProfileGone", name=profile_id)
    if not (values := damage.read(_file(profile_id), "profiles/*.json")):
        raise errors.named("ProfileDamaged", path=_file(profile_id))
    return Profile(**{**values, "examples": tuple(map(tuple, values["examples"]))})


def listed() -> list[Profile]:
    """All profiles, by name; a file that a person damaged is passed over."""
    readable = []
    for path in sorted(_directory().glob("[!.]*.json")):
        with suppress(UserError, ValueError, TypeError, KeyError):
            readable.append(load(path.stem))
    return sorted(readable, key=lambda profile: profile.name.casefold())


def delete(profile_id: str) -> None:
    """Delete a profile."""
    _file(profile_id).unlink(missing_ok=True)


def _directory() -> Path:
    return paths.home() / "profiles"


def _file(profile_id: str) -> Path:
    """The file of a profile, inside the data directory whatever the id says."""
    if paths.slug(profile_id) != profile_id:
        raise errors.named("ProfileGone", name=profile_id)
    return _directory() / f"{profile_id}.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.chat.profiles", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["list", "show", "delete"])
    parser.add_argument("profile", nargs="?", help="id of a profile, as printed by list")
    jobs.command(parser, _command)


def _command(args, parser) -> dict | list[dict]:
    if args.command == "list":
        return [{"profile": profile.id, "name": profile.name, "base_model": profile.base_model} for profile in listed()]
    if not args.profile:
        parser.error(f"{args.command} needs the id of a profile")
    if args.command == "show":
        return asdict(load(args.profile))
    delete(args.profile)
    return {"profile": args.profile, "state": "deleted"}


if __name__ == "__main__":
    main()
