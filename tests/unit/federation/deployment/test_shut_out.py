import subprocess
import sys

import pytest

from federation.deployment.shut_out import leave_if_shut_out

SAID = b'{"code": 100002, "detail": "You are out."}'
LEAVE = f"from federation.deployment.shut_out import *; leave_if_shut_out({SAID!r}); print('here')"


def test_a_process_that_is_told_so_ends_and_says_it():
    command = (sys.executable, "-c", LEAVE)
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (77, "", "You are out.\n")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b'{"code": 100001, "detail": "No."}'])
def test_any_other_error_ends_nothing(body):
    leave_if_shut_out(body)
