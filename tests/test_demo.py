"""The whole job on real weights without the page, as a person would call it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_demo_trains_the_starter_and_its_replies_change(starter_home):
    command = [sys.executable, "-m", "core.demo", "--json", "--home", str(starter_home)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["status"] == "finished"
    assert result["tuned_eval_loss"] < 0.8 * result["base_eval_loss"]
    assert "Keep the lamp lit." in result["tuned_reply"]
    assert "Keep the lamp lit." not in result["base_reply"]
    assert result["tokens_per_second"] > 0
    assert result["peak_memory_gib"] > 0
    assert result["run"]
