"""The engine of background work: directories, states, requests, the events around the work."""

import errno
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock

from core import events, files, jobs, process
from tests.conftest import raises


@pytest.fixture
def job(tmp_path):
    return jobs.create(tmp_path, {"name": "Море"})


@pytest.fixture
def full_disk(monkeypatch):
    """Nothing can be written through core.files any more."""
    monkeypatch.setattr(files.os, "fsync", lambda file: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))


def test_jobs_of_one_name_and_second_have_directories_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pages:
        made = list(pages.map(lambda number: jobs.create(tmp_path, {"name": "x", "number": number}), range(24)))
    assert [jobs.request(path)["number"] for path in made] == list(range(24))
    assert jobs.listed(tmp_path) == sorted(made, reverse=True)


def test_a_directory_that_cannot_be_filled_leaves_nothing(tmp_path, full_disk):
    with pytest.raises(files.NothingWritten):
        jobs.create(tmp_path, {"name": "x"})
    assert list(tmp_path.iterdir()) == []


def test_a_request_of_an_older_version_is_still_read(job):
    (job / "control.json").write_text(json.dumps({"request": "pause"}), encoding="utf-8")
    with FileLock(job / "run.lock"):
        assert (jobs.state(job), jobs.end_request(job)) == ("pausing", "pause")
    asked = jobs.latest_request(job)
    assert asked == {"request": "pause", "after": -1, "asked": round((job / "control.json").stat().st_mtime, 3)}
    assert (jobs.waits(job), jobs.state(job)) == ("", "queued")
    for ending in ("paused", "stopped", "failed"):
        events.append(job, ending)
        assert jobs.state(job) == ending
    events.append(job, "started")
    assert jobs.state(job) == "lost"


def test_a_single_request_of_an_older_version_is_still_read(job):
    (job / "wishes.json").write_text('{"save": 12.5}', encoding="utf-8")
    assert jobs.once_requests(job) == {"save": 12.5}
    jobs.ask(job, "stop")
    jobs.ask(job, "sample")
    assert (jobs.end_request(job), sorted(jobs.once_requests(job))) == ("stop", ["sample", "save"])


def test_resume_and_hold_expire_with_the_next_event(job):
    for request, state in (("hold", "held"), ("resume", "queued")):
        jobs.ask(job, request)
        assert jobs.state(job) == state
        events.append(job, "paused")
        assert (jobs.state(job), jobs.waits(job)) == ("paused", "")


@pytest.mark.parametrize(("request_", "state"), [("stop", "stopping"), ("pause", "pausing")])
def test_a_job_can_be_stopped_and_paused_on_a_full_disk(job, monkeypatch, request_, state):
    jobs.ask(job, "resume")

    def work(directory, request, report):
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "fsync", lambda file: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
            jobs.ask(directory, request_)
            with pytest.raises(files.NothingWritten):
                jobs.ask(directory, "resume")
        assert (jobs.state(directory), jobs.latest_request(directory)["request"]) == (state, request_)
        report("progress")
        raise AssertionError("it should have ended")

    assert jobs.run(job, work) == {"stop": "stopped", "pause": "paused"}[request_]
    jobs.ask(job, "resume")
    assert (jobs.state(job), jobs.end_request(job)) == ("queued", "")


def test_requests_of_one_moment_leave_the_later_one(job):
    """Two windows press at once: no writer takes the other's half-written file."""
    with ThreadPoolExecutor(8) as pages:
        list(pages.map(lambda number: jobs.ask(job, ("stop", "pause")[number % 2]), range(200)))
    assert jobs.latest_request(job)["request"] in ("stop", "pause")
    assert [path.name for path in job.iterdir() if path.suffix == ".tmp"] == []


def test_on_a_full_disk_the_later_request_counts_and_stays_the_same(job, full_disk):
    for request in ("stop", "pause", "stop"):
        jobs.ask(job, request)
        first = jobs.latest_request(job)
        events.append(job, "progress")
        assert (first["request"], jobs.latest_request(job)) == (request, first)


def test_a_stop_passes_every_handler_of_errors(job):
    """A library that turns any Exception into one of its own must not turn a stop into a failure."""

    def work(directory, request, report):
        jobs.ask(directory, "stop")
        try:
            report("download", done=1)
        except Exception as error:
            raise ValueError("the network is broken") from error

    assert jobs.run(job, work) == "stopped"


def test_a_command_that_prints_no_object_has_failed():
    with pytest.raises(process.CommandFailed, match="exit status 0"):
        list(process.json_lines(["-c", "print('hello')"]))


def test_what_nobody_foresaw_is_recorded_with_its_first_line(job, capsys):
    def work(directory, request, report):
        raise ValueError("no such row\nmore")

    assert jobs.run(job, work) == "failed"
    last = events.last(job)
    assert (last["trouble"], last["message"]) == (
        "JobFailed",
        f"ValueError: no such row. The details are in log.txt in {job}.",
    )
    assert "Traceback" in capsys.readouterr().err


def test_a_job_that_another_process_works_on_is_left_alone(job, monkeypatch):
    monkeypatch.setattr(jobs, "LOCK_SECONDS", 0.1)
    with FileLock(job / "run.lock"):
        with pytest.raises(jobs.AlreadyAtWork, match="by another process already"):
            jobs.run(job, lambda *_: {})
        with raises("JobStillAtWork", match='"Море" is still at work'):
            jobs.delete(job)
    assert jobs.run(job, lambda *_: {"rows": 3}) == "finished"
    assert [event["event"] for event in jobs.follow(job)] == ["started", "finished"]
    jobs.delete(job)
    assert not job.exists()
