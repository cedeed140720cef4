from __future__ import annotations

import json
import signal
import subprocess

from gateway.cli.demo import DEMO_ORDERS
from tests.gateway.cli.conftest import PROGRAM, Cli, program_environment


def test_the_log_is_told_from_where_one_likes(demo: Cli) -> None:
    lines = [json.loads(line) for line in demo("tail", "--since", "0", "--count", "3", "--json").out.splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3]
    assert lines[0].keys() == {"seq", "doc", "cause", "at"}
    assert lines[0]["at"].endswith("Z")
    demo("user", "plan", "ada", "free")
    [line] = demo("tail", "--since", str(lines[-1]["seq"]), "--count", "1").out.splitlines()
    assert line.split()[0] == "4"


def test_a_seq_that_no_row_can_have_is_a_wrong_call(demo: Cli) -> None:
    assert "not in the range" in demo("tail", "--since", str(2**63), code=2).err


def test_new_changes_come_as_they_are_made(demo: Cli) -> None:
    pipe = subprocess.PIPE
    command = [*PROGRAM, "tail", "--since", "0"]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=program_environment()) as tail:
        try:
            assert tail.stdout is not None
            assert tail.stderr is not None
            left = len(DEMO_ORDERS)
            while left:
                left -= tail.stdout.readline().split()[3] == "quota_usage"
            demo("user", "plan", "ada", "free")
            assert tail.stdout.readline().split()[2:] == ["user:u_ada", "plan"]
            tail.send_signal(signal.SIGINT)
            assert tail.wait(20) == 130
            assert tail.stderr.read().strip() == ""
        finally:
            tail.kill()
